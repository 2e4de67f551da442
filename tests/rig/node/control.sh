#!/bin/sh
# Runs the commands that come in over a serial port. A request is one line, "ID SECONDS BASE64 OF A SHELL COMMAND"; the
# answer is "ID accepted" and, when the command has ended, "ID begin", the base64 of what it printed, and "ID end CODE".
# Base64 keeps the terminal out of it.
stty raw -echo
echo "control ready"
while read -r id seconds command; do
	echo "$id accepted"
	(echo "$command" | base64 -d) >/run/control.command
	setsid timeout -k 5 "$seconds" sh /run/control.command </dev/null >/run/control.output 2>&1
	code=$?
	echo "$id begin"
	head -c 4000000 /run/control.output | base64
	echo "$id end $code"
done
