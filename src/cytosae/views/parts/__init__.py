"""What pages are made of: sentences, numbers, plots, and the opened data set that they speak of."""
