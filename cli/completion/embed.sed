# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Turns a text file into C string literals.
s/[\\"]/\\&/g
s/.*/"&\\n"/
