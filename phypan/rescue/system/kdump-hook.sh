#!/bin/sh
# A hook for kdump (kdump_pre in /etc/kdump.conf, or a file in /etc/kdump/pre.d): phypan saves the
# dump as /etc/phypan.toml says. When it has, kdump is told to go on to its final action; when it
# could not, kdump saves the dump in its own way. See kdump.conf(5), kdump_pre.
@PHYPAN@ save
case $? in
0 | 3) exit 1 ;;
*) exit 0 ;;
esac
