"""The performance and energy model against measured rows; intervals, ranks and users' own calibration.

Rows are read as published (:mod:`~codesign.validation.measured`), mapped to catalogue parts and shapes of a
deployment (:mod:`~codesign.validation.points`), predicted all at once (:mod:`~codesign.validation.predict`),
and scored (:mod:`~codesign.validation.errors`, :mod:`~codesign.validation.intervals`,
:mod:`~codesign.validation.ranks`). Nothing here is fitted to the rows that it scores, except where a table
says what was left out.

Whole plans are held against rows whose load is known (:mod:`~codesign.validation.deployments`): how many accelerators
are planned for it (:mod:`~codesign.validation.plans`), over how many carried it (:mod:`~codesign.validation.ratios`).
"""
