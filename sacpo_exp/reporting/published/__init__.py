"""Numbers that others have published, as data, to stand beside ours."""
