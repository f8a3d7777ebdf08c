"""Filtering: what each page was used for, and so what a dump level leaves out."""
