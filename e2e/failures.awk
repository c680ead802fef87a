# How each test that failed did, from what libtest prints: the beginning of its panic, without
# the logs of its cluster.

/ panicked at / {
	if (++failures > MOST) exit
	left = LINES_EACH
	print "  " FILENAME ":"
}

/^--- the end of / { left = 0 }

left > 0 {
	print "    " substr($0, 1, WIDTH)
	left--
}

BEGIN {
	MOST = 10
	LINES_EACH = 12
	WIDTH = 1000
}
