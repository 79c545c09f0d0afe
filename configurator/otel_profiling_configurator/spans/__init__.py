"""Whose samples they are: what each span's samples are labelled with."""
