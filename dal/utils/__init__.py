"""Small tools without knowledge of active learning."""
