"""Features learned without labels from the training part of a run: two views of a sample agree."""
