"""What each thread's samples are labelled with, by thread, in Python."""
