"""Where profiles go: the Pyroscope agent of this process, its forks and exits, its server, the labels of every profile."""
