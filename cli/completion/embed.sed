# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Turns a text file into a C string.
s/[\\"]/\\&/g
s/.*/"&\\n"/
1i static const char completion_bash[] =
$a ;
