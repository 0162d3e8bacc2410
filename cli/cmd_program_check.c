/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* program check: each program of an object through this kernel's verifier, and why it refuses one. */
#include "cli.h"

#include <string.h>
#include <sys/utsname.h>
#include <towpath/check.h>
#include <unistd.h>

#define WIDTH 92u /* of an explanation's lines, behind what it is */
#define LOG_SHOWN 12u
#define LIST_WIDTH 60u
#define STACKS_SHOWN 6u

/* ---- JSON -------------------------------------------------------------------------------------- */

static json_t *strings_json(const char *const *list, size_t n)
{
	json_t *out = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(out, json_string(list[i]));
	return out;
}

/* Text of the file's author may be no UTF-8. */
static json_t *text_json(const char *text)
{
	json_t *s = json_string(text);

	return s ? s : json_string("(not UTF-8)");
}

static json_t *refusal_json(const struct tw_check_refusal *r)
{
	json_t *out = json_object();

	if (!r) {
		json_decref(out);
		return json_null();
	}
	json_object_set_new(out, "kind", json_string(r->kind));
	json_object_set_new(out, "title", text_json(r->title));
	json_object_set_new(out, "file", text_json(r->file));
	json_object_set_new(out, "line", json_integer(r->line));
	json_object_set_new(out, "column", json_integer(r->column));
	json_object_set_new(out, "source", text_json(r->source));
	json_object_set_new(out, "knew", strings_json(r->registers, r->n_registers));
	json_object_set_new(out, "cause", text_json(r->cause));
	json_object_set_new(out, "remedy", text_json(r->remedy));
	json_object_set_new(out, "said", text_json(r->said));
	json_object_set_new(out, "log", text_json(r->log));
	return out;
}

static char *since_text(const struct tw_check_need *need)
{
	return need->major ? cli_printf("%u.%u", need->major, need->minor) : cli_printf("?");
}

static json_t *needs_json(const struct tw_check_program *p)
{
	json_t *out = json_array();

	for (size_t i = 0; i < p->n_needs; i++) {
		cleanup_(cleanup_free) char *since = since_text(&p->needs[i]);

		json_array_append_new(out, json_pack("{s:s, s:o}", "since", since, "what",
						     text_json(p->needs[i].what)));
	}
	return out;
}

static json_t *program_json(const struct tw_check_program *p)
{
	json_t *out = json_object(), *stack = json_array();

	for (size_t i = 0; i < p->n_stack; i++)
		json_array_append_new(stack, json_integer(p->stack[i]));
	json_object_set_new(out, "name", text_json(p->name));
	json_object_set_new(out, "section", text_json(p->section));
	json_object_set_new(out, "type", json_string(p->type));
	json_object_set_new(out, "taken", json_boolean(!p->result));
	json_object_set_new(out, "instructions", json_integer((json_int_t)p->instructions));
	json_object_set_new(out, "processed", json_integer((json_int_t)p->processed));
	json_object_set_new(out, "limit", json_integer((json_int_t)p->limit));
	json_object_set_new(out, "microseconds", json_integer(p->usec));
	json_object_set_new(out, "stack", stack);
	json_object_set_new(out, "maps", strings_json(p->maps, p->n_maps));
	json_object_set_new(out, "helpers", strings_json(p->helpers, p->n_helpers));
	json_object_set_new(out, "kfuncs", strings_json(p->kfuncs, p->n_kfuncs));
	json_object_set_new(out, "needs", needs_json(p));
	json_object_set_new(out, "refusal", refusal_json(p->refusal));
	return out;
}

static json_t *check_json(const struct tw_check *check, const char *path)
{
	json_t *programs = json_array();
	struct utsname uts;

	uname(&uts);
	for (size_t i = 0; i < tw_check_count(check); i++)
		json_array_append_new(programs, program_json(tw_check_program(check, i)));
	return json_pack("{s:o, s:s, s:o, s:o}", "file", text_json(path), "kernel", uts.release,
			 "refusal", refusal_json(tw_check_refused(check)), "programs", programs);
}

/* ---- the table --------------------------------------------------------------------------------- */

/* Lists one after the other, with commas, as far as a table has room; "-" for none. malloc'ed. */
static char *lists_join(const char *const *a, size_t n_a, const char *const *b, size_t n_b)
{
	char *out = cli_printf("%s", n_a + n_b ? "" : "-");

	for (size_t i = 0; i < n_a + n_b; i++) {
		const char *name = i < n_a ? a[i] : b[i - n_a];
		bool full = i && strlen(out) + strlen(name) > LIST_WIDTH;
		char *more = full ? cli_printf("%s and %zu more", out, n_a + n_b - i)
				  : cli_printf("%s%s%s", out, i ? "," : "", name);

		free(out);
		out = more;
		if (full)
			break;
	}
	return out;
}

/* "8+304": of the program and of each of its functions, as the verifier has them. malloc'ed. */
static char *stack_text(const struct tw_check_program *p)
{
	char *out = cli_printf("%s", p->n_stack ? "" : "-");

	for (size_t i = 0; i < p->n_stack; i++) {
		bool full = i == STACKS_SHOWN;
		char *more = full ? cli_printf("%s+...", out)
				  : cli_printf("%s%s%u", out, i ? "+" : "", p->stack[i]);

		free(out);
		out = more;
		if (full)
			break;
	}
	return out;
}

static void program_row(struct cli_table *t, const struct tw_check_program *p)
{
	cleanup_(cleanup_free) char *stack = stack_text(p);
	cleanup_(cleanup_free) char *maps = lists_join(p->maps, p->n_maps, NULL, 0);
	cleanup_(cleanup_free) char *calls =
		lists_join(p->helpers, p->n_helpers, p->kfuncs, p->n_kfuncs);
	cleanup_(cleanup_free) char *since = p->n_needs ? since_text(p->needs) : cli_printf("?");
	char number[32];

	cli_table_cell(t, NULL, "%s", p->name);
	cli_table_cell(t, p->result ? CLI_RED : CLI_GREEN, "%s", p->result ? "refused" : "taken");
	cli_table_cell(t, NULL, "%s (%s)", p->type, p->section);
	cli_table_cell(t, NULL, "%s", cli_number(number, p->instructions));
	if (p->limit)
		cli_table_cell(t, NULL, "%s", cli_number(number, p->processed));
	else
		cli_table_cell(t, NULL, "-");
	if (p->limit)
		cli_table_cell(t, NULL, "%.1f %%", 100.0 * (double)p->processed / (double)p->limit);
	else
		cli_table_cell(t, NULL, "-");
	cli_table_cell(t, NULL, "%s", stack);
	cli_table_cell(t, NULL, "%s, %s", since, p->n_needs ? p->needs[0].what : "");
	cli_table_cell(t, NULL, "%s", maps);
	cli_table_cell(t, NULL, "%s", calls);
}

/* ---- explanations ------------------------------------------------------------------------------ */

/* A paragraph in lines of WIDTH, with its name before the first. */
static void paragraph(const struct cli *cli, const char *name, const char *text)
{
	const char *head = name;
	size_t column = 0;

	if (!*text)
		return;
	printf("  %s%-7s%s ", cli_color(cli, CLI_BOLD), head, cli_plain(cli));
	while (*text) {
		size_t len = strcspn(text, " ");

		if (column && column + 1 + len > WIDTH) {
			printf("\n%*s", 10, "");
			column = 0;
		}
		printf("%s%.*s", column ? " " : "", (int)len, text);
		column += len + (column != 0);
		text += len + strspn(text + len, " ");
	}
	putchar('\n');
}

/* Lines as they are. */
static void lines_print(const struct cli *cli, const char *name, const char *text)
{
	const char *head = name;

	for (; *text; text += strcspn(text, "\n") + (text[strcspn(text, "\n")] == '\n')) {
		printf("  %s%-7s%s %.*s\n", cli_color(cli, CLI_BOLD), head, cli_plain(cli),
		       (int)strcspn(text, "\n"), text);
		head = "";
	}
}

/* The last lines of a text. */
static const char *text_end(const char *text, unsigned int lines)
{
	const char *p = text + strlen(text);

	while (p > text && (p[-1] != '\n' || --lines))
		p--;
	return p;
}

/* A file of this folder goes by its name. */
static const char *file_shown(const char *file)
{
	cleanup_(cleanup_free) char *here = getcwd(NULL, 0);
	size_t len = here ? strlen(here) : 0;

	return len && !strncmp(file, here, len) && file[len] == '/' ? file + len + 1 : file;
}

static void refusal_print(const struct cli *cli, const char *name, const struct tw_check_refusal *r)
{
	printf("\n%s%s%s %s\n", cli_color(cli, CLI_RED), name, cli_plain(cli), r->title);
	if (r->line)
		printf("  %sline%s    %s:%u: %s\n", cli_color(cli, CLI_BOLD), cli_plain(cli),
		       file_shown(r->file), r->line, r->source);
	else if (*r->source)
		printf("  %sline%s    %s\n", cli_color(cli, CLI_BOLD), cli_plain(cli), r->source);
	for (size_t i = 0; i < r->n_registers; i++)
		paragraph(cli, i ? "" : "knew", r->registers[i]);
	paragraph(cli, "cause", r->cause);
	paragraph(cli, "remedy", r->remedy);
	lines_print(cli, "said", r->said);
	if (!strcmp(r->kind, "unknown"))
		lines_print(cli, "log", text_end(r->log, LOG_SHOWN));
}

static void check_print(const struct cli *cli, const struct tw_check *check, const char *path)
{
	static const char *const heads[] = { "PROGRAM", "KERNEL",      "TYPE (SECTION)",
					     ">INSNS",	">STEPS",      ">LIMIT",
					     ">STACK",	"NEEDS LINUX", "MAPS",
					     "CALLS",	NULL };
	const struct tw_check_refusal *object = tw_check_refused(check);
	struct cli_table *t;

	if (object) {
		refusal_print(cli, path, object);
		return;
	}
	t = cli_table_new(cli, heads);
	for (size_t i = 0; i < tw_check_count(check); i++)
		program_row(t, tw_check_program(check, i));
	cli_table_print(t);
	for (size_t i = 0; i < tw_check_count(check); i++) {
		const struct tw_check_program *p = tw_check_program(check, i);

		if (p->refusal)
			refusal_print(cli, p->name, p->refusal);
	}
}

/* ---- the command ------------------------------------------------------------------------------- */

static bool all_taken(const struct tw_check *check)
{
	if (tw_check_refused(check))
		return false;
	for (size_t i = 0; i < tw_check_count(check); i++)
		if (tw_check_program(check, i)->result)
			return false;
	return true;
}

static int check_run(struct cli *cli, int argc, char **argv)
{
	struct tw_check *check;
	char err[512];
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	if (tw_check_file(&check, argv[optind], err, sizeof(err)))
		return cli_refuse("%s", err);
	ret = all_taken(check) ? CLI_OK : CLI_REFUSED;
	if (cli->output == CLI_TABLE) {
		check_print(cli, check, argv[optind]);
	} else {
		cleanup_(cleanup_json) json_t *json = check_json(check, argv[optind]);

		cli_print(cli, json);
	}
	tw_check_free(check);
	return ret;
}

const struct cli_command cmd_program_check = {
	.name = "program check",
	.usage = "FILE.o",
	.summary = "ask this kernel's verifier for each program, and explain its refusals",
	.details =
		"Each program is loaded alone and let go again: nothing is attached or pinned. "
		"STEPS\n"
		"are the instructions that the verifier walked, LIMIT their part of the 1 000 000 "
		"that\n"
		"it may walk; STACK is in bytes, of the program and each function. NEEDS LINUX is "
		"the\n"
		"first kernel that has all that the program uses, and what asks for it; kfuncs "
		"that\n"
		"are __weak do not count, as a program asks whether they are there. Whether that\n"
		"kernel's verifier would take the program, only it can say. Exit status 1 when one "
		"is\n"
		"refused. Needs root, and no agent.\n",
	.examples = "  sudo towpath program check count.o\n"
		    "  sudo towpath program check count.o -o json | jq '.programs[].needs'\n",
	.run = check_run,
};
