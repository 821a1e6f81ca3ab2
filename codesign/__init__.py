"""codesign: choose accelerator fleets and chips for AI-agent inference, with proof."""
