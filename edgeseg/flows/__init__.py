"""What edgeseg does, as plain typed functions: the command line is a skin over these."""
