/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * libFuzzer: any bytes as the verifier's log. What is read of it stays within its sizes, and every log is
 * explained somehow. The seeds are real logs, named by kind and kernel; tests/lib/test_verifier.c reads
 * them too.
 */
#include <string.h>

#include "fuzz.h"
#include "verifier_explain.h"

static bool ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct verifier_program about = { "__sk_buff", "xdp_md", true, true };
	struct verifier_log log;
	struct verifier_explanation why;
	char *line = strndup((const char *)data, size);
	char words[64];

	verifier_log_read((const char *)data, size, &log);
	fuzz_check(log.n_messages <= VERIFIER_MESSAGES && log.n_calls <= VERIFIER_CALLS &&
		   log.n_stack <= VERIFIER_SUBPROGRAMS && log.frame < VERIFIER_FRAMES);
	fuzz_check(ends(log.source.text, sizeof(log.source.text)) &&
		   ends(log.insn_text, sizeof(log.insn_text)));
	for (unsigned int i = 0; i <= VERIFIER_REGISTERS; i++)
		if (verifier_register_words(&log, i, words, sizeof(words)))
			fuzz_check(i < VERIFIER_REGISTERS && ends(words, sizeof(words)));
	verifier_explain(&log, size % 2 ? &about : NULL, &why);
	fuzz_check(why.kind && *why.title && *why.cause && why.n_registers <= EXPLAIN_REGISTERS);
	fuzz_check(line);
	line[strcspn(line, "\n")] = '\0';
	if (verifier_explain_loader(line, &why))
		fuzz_check(*why.title && *why.remedy);
	free(line);
	return 0;
}
