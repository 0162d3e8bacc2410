# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Completion of towpath: the command itself knows what may follow.
_towpath()
{
	local word=${COMP_WORDS[COMP_CWORD]}

	mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	# Nothing of towpath's own: names of files, as after -f.
	if [ ${#COMPREPLY[@]} -eq 0 ]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		compopt -o filenames
	fi
}
complete -F _towpath towpath
