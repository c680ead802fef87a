#!/bin/sh
# Signs a list of digests anew, one a line: what still runs and is to start again although
# the version that signed it is about to leave the window, or was revoked. Whoever makes the
# list says by it that these images are what was built.
#   resign.sh FILE                                   NAMESPACE, SECRET (image-signing)
set -eu
list=${1:?"usage: $0 FILE"}
here=$(dirname "$0")
failed=0
while read -r image; do
	case $image in '' | '#'*) continue ;; esac
	# Neither is to read the rest of the list.
	if ! "$here/sign.sh" "$image" < /dev/null || ! "$here/verify.sh" "$image" < /dev/null; then
		failed=1
	fi
done < "$list"
exit $failed
