// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* main() of a target without libFuzzer: runs the files it is given, each once. */
#include "fuzz.h"

#define INPUT_MAX (1u << 20)

static void replay(const char *path)
{
	FILE *in = fopen(path, "re");
	uint8_t *data = malloc(INPUT_MAX);
	size_t n;

	fuzz_check(in && data);
	n = fread(data, 1, INPUT_MAX, in);
	fclose(in);
	LLVMFuzzerTestOneInput(data, n);
	free(data);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%d inputs\n", argc - 1);
	return argc < 2;
}
