/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* features: what this kernel offers of what the data path uses, found by trying. */
#include "cli.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum probe {
	PROBE_PROGRAM,
	PROBE_MAP,
	PROBE_HELPER,
	PROBE_KFUNC,
	PROBE_TCX,
	PROBE_BTF,
	PROBE_JIT,
	PROBE_DROPS
};

struct feature {
	const char *name;
	const char *use; /* what it is for; when absent: what is done then */
	enum probe probe;
	int id; /* of the program type, map type or helper */
	bool required;
};

static const struct feature features[] = {
	{ "BTF of the kernel", "loading one build on every kernel", PROBE_BTF, 0, true },
	{ "JIT", "speed: programs are interpreted without it", PROBE_JIT, 0, false },
	{ "program tc", "the data path of containers and uplinks", PROBE_PROGRAM,
	  BPF_PROG_TYPE_SCHED_CLS, true },
	{ "tcx links", "attaching; without it clsact filters, which are watched", PROBE_TCX, 0,
	  false },
	{ "program syscall", "collecting flows inside the kernel", PROBE_PROGRAM,
	  BPF_PROG_TYPE_SYSCALL, true },
	{ "map hash", "flows, policy peers", PROBE_MAP, BPF_MAP_TYPE_HASH, true },
	{ "map array", "endpoints, policies, address pages", PROBE_MAP, BPF_MAP_TYPE_ARRAY, true },
	{ "map percpu_array", "counters", PROBE_MAP, BPF_MAP_TYPE_PERCPU_ARRAY, true },
	{ "map lru_hash", "fragments", PROBE_MAP, BPF_MAP_TYPE_LRU_HASH, true },
	{ "map lpm_trie", "IPv6 prefixes", PROBE_MAP, BPF_MAP_TYPE_LPM_TRIE, true },
	{ "map prog_array", "tail calls into the slow path", PROBE_MAP, BPF_MAP_TYPE_PROG_ARRAY,
	  true },
	{ "map ringbuf", "events of the flow log", PROBE_MAP, BPF_MAP_TYPE_RINGBUF, true },
	{ "helper redirect_peer", "container to container without a backlog", PROBE_HELPER,
	  BPF_FUNC_redirect_peer, false },
	{ "helper redirect_neigh", "to the outside past the host's stack", PROBE_HELPER,
	  BPF_FUNC_redirect_neigh, true },
	{ "helper fib_lookup", "routes to the outside", PROBE_HELPER, BPF_FUNC_fib_lookup, true },
	{ "helper for_each_map_elem", "collecting flows inside the kernel", PROBE_HELPER,
	  BPF_FUNC_for_each_map_elem, true },
	{ "helper jiffies64", "cheap time", PROBE_HELPER, BPF_FUNC_jiffies64, true },
	{ "helper sk_lookup_tcp", "keeping off ports that sockets of the host hold", PROBE_HELPER,
	  BPF_FUNC_sk_lookup_tcp, true },
	{ "helper ringbuf_reserve", "events of the flow log", PROBE_HELPER,
	  BPF_FUNC_ringbuf_reserve, true },
	{ "reasons of kfree_skb", "drops of the kernel's own stack in the flow log", PROBE_DROPS, 0,
	  false },
	{ "kfunc bpf_cast_to_kern_ctx", "checksums by hand; without it one helper call more",
	  PROBE_KFUNC, 0, false },
};

#define FEATURE_COUNT (sizeof(features) / sizeof(*features))

/*
 * Attaches an empty program by a tcx link, to the loopback of a network namespace of its own:
 * nothing that anybody uses is touched. In a child, as the namespace is the process's.
 */
static int tcx_try(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = -1 }, /* TCX_NEXT */
		{ .code = BPF_JMP | BPF_EXIT },
	};
	const unsigned int loopback = 1; /* its ifindex in every new namespace */

	if (unshare(CLONE_NEWNET))
		return -errno;
	int prog = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "tw_probe", "GPL", insns, 2, NULL);

	if (prog < 0)
		return prog;
	int link = bpf_link_create(prog, loopback, BPF_TCX_INGRESS, NULL);

	return link >= 0;
}

static int tcx_probe(void)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(tcx_try() == 1 ? 0 : 1);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* A program that reads the third argument of the tracepoint, the reason. */
static int drops_probe(const struct btf *btf)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_DW, .src_reg = BPF_REG_1, .off = 16 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int id = btf ? btf__find_by_name_kind(btf, "btf_trace_kfree_skb", BTF_KIND_TYPEDEF)
		     : -ENOENT;
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_RAW_TP,
		    .attach_btf_id = id > 0 ? (uint32_t)id : 0);

	if (id < 0)
		return id == -ENOENT ? 0 : id;
	int prog = bpf_prog_load(BPF_PROG_TYPE_TRACING, "tw_probe", "GPL", insns, 3, &opts);

	if (prog < 0)
		return prog == -EPERM ? prog : 0;
	close(prog);
	return 1;
}

static int jit_probe(void)
{
	FILE *f = fopen("/proc/sys/net/core/bpf_jit_enable", "re");
	int on = -1;

	if (!f)
		return -errno;
	if (fscanf(f, "%d", &on) != 1)
		on = -1;
	fclose(f);
	return on < 0 ? -EINVAL : on > 0;
}

/* 1 there, 0 not there, -errno: cannot tell. */
static int feature_probe(const struct feature *f, const struct btf *btf)
{
	switch (f->probe) {
	case PROBE_PROGRAM:
		return libbpf_probe_bpf_prog_type((enum bpf_prog_type)f->id, NULL);
	case PROBE_MAP:
		return libbpf_probe_bpf_map_type((enum bpf_map_type)f->id, NULL);
	case PROBE_HELPER: {
		/* Only a syscall program may walk a map in every kernel that has both. */
		bool walk = f->id == BPF_FUNC_for_each_map_elem;

		return libbpf_probe_bpf_helper(walk ? BPF_PROG_TYPE_SYSCALL
						    : BPF_PROG_TYPE_SCHED_CLS,
					       (enum bpf_func_id)f->id, NULL);
	}
	case PROBE_KFUNC:
		return btf ? btf__find_by_name_kind(btf, strchr(f->name, ' ') + 1, BTF_KIND_FUNC) >
				       0
			   : -ENOENT;
	case PROBE_TCX:
		return tcx_probe();
	case PROBE_DROPS:
		return drops_probe(btf);
	case PROBE_BTF:
		return btf != NULL;
	case PROBE_JIT:
		return jit_probe();
	}
	return -EINVAL;
}

static int features_print(const struct cli *cli, const json_t *items, bool ok, const char *release)
{
	static const char *const heads[] = { "FEATURE", "HERE", "NEEDED", "FOR", NULL };
	struct cli_table *t = cli_table_new(cli, heads);
	size_t i;
	json_t *f;

	json_array_foreach(items, i, f) {
		const char *here = cli_str(f, "here");
		bool required = json_is_true(json_object_get(f, "required"));
		const char *color = !strcmp(here, "yes") ? CLI_GREEN
				    : required		 ? CLI_RED
							 : CLI_YELLOW;

		cli_table_cell(t, NULL, "%s", cli_str(f, "name"));
		cli_table_cell(t, color, "%s", here);
		cli_table_cell(t, NULL, "%s", required ? "yes" : "no");
		cli_table_cell(t, NULL, "%s", cli_str(f, "use"));
	}
	cli_table_print(t);
	printf("\nLinux %s: %s\n", release,
	       ok ? "the data path runs here" : "the data path cannot run here");
	return CLI_OK;
}

static int no_messages(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return 0;
}

static int features_run(struct cli *cli, int argc, char **argv)
{
	cleanup_(cleanup_json) json_t *items = json_array();
	cleanup_(cleanup_json) json_t *all = NULL;
	struct utsname uts;
	bool ok = true;
	int ret;

	if (cli_getopt(cli, argc, argv) != -1)
		return CLI_USAGE;
	if (cli_operands(cli, argc, 0, 0, &ret))
		return ret;
	if (geteuid())
		return cli_refuse("features are found by trying, which only root may do: use sudo");
	libbpf_set_print(no_messages);
	uname(&uts);

	struct btf *btf = btf__load_vmlinux_btf();

	for (size_t i = 0; i < FEATURE_COUNT; i++) {
		const struct feature *f = &features[i];
		int here = feature_probe(f, btf);

		ok &= here == 1 || !f->required;
		json_array_append_new(items,
				      json_pack("{s:s, s:s, s:b, s:s}", "name", f->name, "here",
						here == 1 ? "yes"
						: !here	  ? "no"
							  : "unknown",
						"required", f->required, "use", f->use));
	}
	btf__free(btf);
	if (cli->output == CLI_TABLE)
		return features_print(cli, items, ok, uts.release);
	all = json_pack("{s:s, s:b, s:O}", "kernel", uts.release, "usable", ok, "features", items);
	return cli_print(cli, all);
}

const struct cli_command cmd_features = {
	.name = "features",
	.usage = "",
	.summary = "show what this kernel offers of what the data path uses",
	.details = "Found by trying, never by the kernel's version; needs root, and no agent.\n",
	.examples = "  sudo towpath features\n"
		    "  sudo towpath features -o json | jq .usable\n",
	.run = features_run,
};
