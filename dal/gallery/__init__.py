"""Pictures that explain: a page for a lecture, and one of a run."""
