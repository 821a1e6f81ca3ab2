"""Why a plan is as it is, or why there is none, in the words of the problem file."""
