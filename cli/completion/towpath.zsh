#compdef towpath
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Completion of towpath: the command itself knows what may follow.
_towpath() {
	local -a found
	local word

	for word in "${(@f)$(${(Q)words[1]} --complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
		[[ -n $word ]] && found+=("$word")
	done
	# Nothing of towpath's own: names of files, as after -f.
	if (( $#found )); then
		compadd -- "${found[@]}"
	else
		_files
	fi
}
# From a folder of fpath this file is the function's body; else it is sourced.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
	_towpath "$@"
else
	(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
	compdef _towpath towpath
fi
