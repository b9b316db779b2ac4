"""What the files of an output alone can tell: whether its table is true, and how alike its pictures are."""
