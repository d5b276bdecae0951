"""The HTML report of a run: values in, one self-contained page out."""
