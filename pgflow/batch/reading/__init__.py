"""Reading items: a file or standard input, unzipped, in one of the formats, a block at a time."""
