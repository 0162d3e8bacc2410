/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* run, exec and rm: processes in endpoints of their own, made through the CNI path. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

enum { OPT_IMAGE_ROOT = CLI_LONG, OPT_IP, OPT_CNI_BIN, OPT_GRACE };

#define GRACE_DEFAULT 10 /* seconds from SIGTERM to SIGKILL */

/* "80", "80/udp", "http=80/tcp" to a container port; false when it is none. */
static bool parse_port(const char *text, json_t *ports)
{
	static const char *const protos[] = { "TCP", "UDP", "SCTP" };
	const char *eq = strchr(text, '='), *proto = "TCP";
	cleanup_(cleanup_free) char *name = eq ? cli_printf("%.*s", (int)(eq - text), text) : NULL;
	const char *digits = eq ? eq + 1 : text;
	char *end;
	unsigned long port = strtoul(digits, &end, 10);
	size_t i = 0;

	if (*digits < '0' || *digits > '9' || !port || port > 65535 || (name && !*name))
		return false;
	if (*end) {
		while (*end == '/' && i < 3 && strcasecmp(end + 1, protos[i]))
			i++;
		if (*end != '/' || i == 3)
			return false;
		proto = protos[i];
	}
	json_array_append_new(ports, json_pack("{s:s*, s:i, s:s}", "name", name, "containerPort",
					       (int)port, "protocol", proto));
	return true;
}

/* The Pod object: what policies then see, named ports too. */
static int pod_object_apply(struct cli *cli, struct run *r)
{
	cleanup_(cleanup_json) json_t *pod = json_pack(
		"{s:s, s:s, s:{s:s, s:s, s:O}, s:{s:[{s:s, s:s, s:O}]}}", "apiVersion", "v1",
		"kind", "Pod", "metadata", "namespace", r->ns, "name", r->name, "labels", r->labels,
		"spec", "containers", "name", "main", "image", "none", "ports", r->ports);
	cleanup_(cleanup_free) char *text = pod ? json_dumps(pod, JSON_COMPACT) : NULL;
	cleanup_(cleanup_json) json_t *body =
		json_pack("{s:[{s:s, s:s*}]}", "files", "name", "towpath run", "text", text);

	if (!text)
		return cli_refuse("out of memory");
	int ret = cli_call(cli, "POST", "/v1/apply", body, NULL);

	if (!ret)
		r->pod_object = true;
	return ret;
}

static void pod_object_delete(struct cli *cli, struct run *r)
{
	cleanup_(cleanup_free) char *path = cli_path("/v1/objects/pods/%s/%s", r->ns, r->name);

	if (r->pod_object && cli_call_quiet404(cli, "DELETE", path, NULL) != CLI_REFUSED)
		r->pod_object = false;
}

/* The agent must be there, and must not know this pod otherwise. */
static int run_check(struct cli *cli, struct run *r)
{
	cleanup_(cleanup_json) json_t *status = NULL;
	cleanup_(cleanup_free) char *path = cli_path("/v1/objects/pods/%s/%s", r->ns, r->name);
	int ret = cli_call(cli, "GET", "/v1/status", NULL, &status);

	if (ret)
		return ret;
	const char *state = cli_str(json_object_get(status, "node"), "state_dir");

	if (*state == '/') /* else it is relative to where the agent was started */
		r->state_dir = cli_printf("%s", state);
	if (!json_object_size(r->labels) && !json_array_size(r->ports))
		return CLI_OK;
	ret = cli_call_quiet404(cli, "GET", path, NULL);
	if (ret == CLI_OK)
		return cli_refuse(
			"there is a Pod object %s/%s, and its labels and ports count: leave "
			"out -l and -p, or delete it first",
			r->ns, r->name);
	return ret < 0 ? CLI_OK : ret;
}

/*
 * Takes down what a run made. What cannot be taken down now stays recorded, for rm to try
 * again. Returns CLI_OK, or CLI_REFUSED after a message.
 */
static int run_down(struct cli *cli, struct run *r)
{
	int ret = run_cni(r, "DEL") ? CLI_REFUSED : CLI_OK;

	pod_object_delete(cli, r);
	if (r->pod_object)
		ret = CLI_REFUSED;
	if (ret) {
		r->pid = 0;
		run_save(r);
		return ret;
	}
	run_netns_remove(r);
	run_forget(r);
	return CLI_OK;
}

/* Namespace, record, Pod object, endpoint: on failure all is as before. */
static int run_up(struct cli *cli, struct run *r)
{
	int ret = run_netns_create(r);

	if (ret) {
		errno = -ret;
		run_forget(r);
		return cli_refuse("cannot make the network namespace %s: %m", r->netns);
	}
	ret = run_save(r);
	if (ret) {
		errno = -ret;
		run_netns_remove(r);
		run_forget(r);
		return cli_refuse("cannot write %s: %m", r->path);
	}
	if (json_array_size(r->ports))
		ret = pod_object_apply(cli, r);
	if (!ret && run_cni(r, "ADD"))
		ret = CLI_REFUSED;
	if (ret)
		run_down(cli, r);
	return ret;
}

/* From the started endpoint to its end; the exit status. */
static int run_keep(struct cli *cli, struct run *r, char **argv, const sigset_t *mask, int report)
{
	int status = run_start(r, argv, mask);

	if (!status && run_save(r))
		cli_refuse("cannot write %s: %m", r->path);
	if (report >= 0) {
		struct {
			int status;
			pid_t pid;
		} said = { status, r->pid };

		if (!status && (setsid() < 0 || run_detach_output(r) || chdir("/")))
			cli_refuse("cannot leave the terminal: %m");
		if (write(report, &said, sizeof(said)) < 0)
			cli_refuse("nobody waits for this run any more");
		close(report);
	}
	if (!status)
		status = run_wait(r);
	run_down(cli, r);
	return status;
}

static int print_started(const struct cli *cli, const struct run *r)
{
	cleanup_(cleanup_free) char *ips = cli_join(r->got);

	if (cli->output != CLI_TABLE) {
		cleanup_(cleanup_json) json_t *j = json_pack(
			"{s:s, s:s, s:O, s:i, s:s, s:s}", "namespace", r->ns, "name", r->name,
			"ips", r->got, "pid", (int)r->pid, "netns", r->netns, "log", r->log);

		return cli_print(cli, j);
	}
	printf("%s/%s runs at %s, pid %d, output in %s\n", r->ns, r->name, ips, (int)r->pid,
	       r->log);
	return CLI_OK;
}

/* A keeper in the background; returns once the command runs, or has failed to. */
static int run_detached(struct cli *cli, struct run *r, char **argv, const sigset_t *mask)
{
	struct {
		int status;
		pid_t pid;
	} said = { CLI_REFUSED, 0 };
	int report[2];

	unlink(r->log); /* of an earlier run */
	/* The keeper shall not share the connection. */
	tw_client_free(cli->client);
	cli->client = NULL;
	if (pipe2(report, O_CLOEXEC))
		return cli_refuse("cannot go to the background: %m");
	fflush(stdout);

	pid_t pid = fork();

	if (!pid) {
		close(report[0]);
		_exit(run_keep(cli, r, argv, mask, report[1]));
	}
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		run_down(cli, r);
		return cli_refuse("cannot go to the background: %m");
	}
	ssize_t n = read(report[0], &said, sizeof(said));

	close(report[0]);
	if (n != sizeof(said))
		return cli_refuse("the keeper of %s/%s ended early: see %s", r->ns, r->name,
				  r->log);
	r->pid = said.pid;
	return said.status ? said.status : print_started(cli, r);
}

/* What a killed keeper left behind under this name; the lock of its record is r's. */
static int leftover_clear(struct cli *cli, struct run *r)
{
	struct run old __attribute__((cleanup(run_free))) = { .lock = -1 };
	int ret = run_init(&old, cli, r->ns, r->name);

	if (ret || run_load(&old))
		return ret;
	if (run_alive(&old))
		return cli_refuse(
			"%s/%s still runs as pid %d without its keeper: towpath rm -n %s %s", r->ns,
			r->name, (int)old.pid, r->ns, r->name);
	old.lock = r->lock;
	r->lock = -1;
	ret = run_down(cli, &old);
	if (ret)
		return ret;
	return run_lock(r, true) == 1
		       ? CLI_OK
		       : cli_refuse("%s/%s was started by somebody else just now", r->ns, r->name);
}

/* Gets the record's lock. */
static int run_claim(struct cli *cli, struct run *r)
{
	int ret = run_lock(r, true);

	if (ret == -EBUSY)
		return cli_refuse("%s/%s is running already: choose another name, or towpath rm "
				  "-n %s %s",
				  r->ns, r->name, r->ns, r->name);
	if (ret < 0) {
		errno = -ret;
		return cli_refuse("cannot write %s: %m", r->path);
	}
	return leftover_clear(cli, r);
}

static int run_options(struct cli *cli, struct run *r, int argc, char **argv, const char **ns,
		       const char **cni_bin)
{
	int opt;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case 'n':
			*ns = cli->value;
			break;
		case 'l':
			if (!cli_parse_label(cli->value, r->labels))
				return cli_usage(cli, "-l takes key=value, not \"%s\"", cli->value);
			break;
		case 'p':
			if (!parse_port(cli->value, r->ports))
				return cli_usage(cli,
						 "-p takes 80, 53/udp or http=80/tcp, not \"%s\"",
						 cli->value);
			break;
		case 'd':
			r->detached = true;
			break;
		case OPT_IMAGE_ROOT:
			free(r->root);
			r->root = realpath(cli->value, NULL);
			if (!r->root)
				return cli_refuse("cannot use %s as root: %m", cli->value);
			break;
		case OPT_IP:
			json_array_append_new(r->ips, json_string(cli->value));
			break;
		case OPT_CNI_BIN:
			*cni_bin = cli->value;
			break;
		default:
			return CLI_USAGE;
		}
	}
	return CLI_OK;
}

/* The NAME operand, and its namespace from it or from -n. */
static int take_name(const struct cli *cli, const char *text, const char *ns, char **out_ns,
		     char **out_name)
{
	if (cli_parse_pod(text, ns, out_ns, out_name))
		return CLI_OK;
	return cli_usage(cli,
			 "\"%s\" in \"%s\" is no name of a pod: use small letters, digits and -",
			 text, ns);
}

static int run_go(struct cli *cli, struct run *r)
{
	sigset_t mask;
	int ret = run_check(cli, r);

	if (!ret)
		ret = run_claim(cli, r);
	if (ret)
		return ret;
	/* From here to the end nothing may stop half-way. */
	keeper_signals(&mask);
	ret = run_up(cli, r);
	if (ret)
		return ret;
	return r->detached ? run_detached(cli, r, cli->rest, &mask)
			   : run_keep(cli, r, cli->rest, &mask, -1);
}

static int run_run(struct cli *cli, int argc, char **argv)
{
	struct run r __attribute__((cleanup(run_free))) = {
		.lock = -1, .labels = json_object(), .ports = json_array(), .ips = json_array()
	};
	cleanup_(cleanup_free) char *in_ns = NULL, *name = NULL;
	const char *ns = "default", *cni_bin = NULL;
	int ret = run_options(cli, &r, argc, argv, &ns, &cni_bin);

	if (ret || cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	if (!cli->rest || !*cli->rest)
		return cli_usage(cli, "say what to run after --, as in: towpath run %s -- sleep 60",
				 argv[optind]);
	ret = take_name(cli, argv[optind], ns, &in_ns, &name);
	if (ret)
		return ret;
	if (geteuid())
		return cli_refuse("only root may make network namespaces: use sudo");
	ret = run_init(&r, cli, in_ns, name);
	if (ret)
		return ret;
	if (cni_bin) {
		free(r.plugin);
		r.plugin = realpath(cni_bin, NULL);
		if (!r.plugin)
			return cli_refuse("cannot use %s as the CNI plugin: %m", cni_bin);
	}
	return run_go(cli, &r);
}

/* ---- exec ---- */

/* Where the endpoint of a pod that something else runs has its network namespace. */
static int sandbox_find(struct cli *cli, const char *ns, const char *name, char **out)
{
	cleanup_(cleanup_json) json_t *reply = NULL;
	int ret = cli_call(cli, "GET", "/v1/endpoints", NULL, &reply);
	size_t i;
	json_t *ep;

	if (ret)
		return ret;
	json_array_foreach(json_object_get(reply, "items"), i, ep) {
		if (strcmp(cli_str(ep, "namespace"), ns) || strcmp(cli_str(ep, "pod"), name))
			continue;
		*out = cli_printf("%s", cli_str(ep, "sandbox"));
		return CLI_OK;
	}
	return cli_refuse("there is no endpoint %s/%s: see towpath get endpoints", ns, name);
}

static int exec_run(struct cli *cli, int argc, char **argv)
{
	struct run r __attribute__((cleanup(run_free))) = { .lock = -1 };
	cleanup_(cleanup_free) char *in_ns = NULL, *name = NULL, *sandbox = NULL;
	const char *ns = "default";
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		if (opt != 'n')
			return CLI_USAGE;
		ns = cli->value;
	}
	if (cli_operands(cli, argc, 1, 1, &ret))
		return ret;
	if (!cli->rest || !*cli->rest)
		return cli_usage(cli,
				 "say what to run after --, as in: towpath exec %s -- ip address",
				 argv[optind]);
	ret = take_name(cli, argv[optind], ns, &in_ns, &name);
	if (!ret)
		ret = run_init(&r, cli, in_ns, name);
	if (ret)
		return ret;
	bool ours = !run_load(&r) && run_alive(&r);

	if (!ours) {
		ret = sandbox_find(cli, in_ns, name, &sandbox);
		if (ret)
			return ret;
	}
	ret = run_enter(ours ? r.pid : 0, sandbox, ours && r.root);
	if (ret) {
		errno = -ret;
		return cli_refuse("cannot enter the network namespace of %s/%s: %m", in_ns, name);
	}
	return run_exec(cli->rest);
}

/* ---- rm ---- */

/*
 * Ends the process. Its keeper, when there is one, then takes the run down; the pidfd is
 * opened before the look at the process, so the signal can reach no other.
 */
static void run_end(const struct run *r, int grace_s)
{
	int fd = r->pid > 0 ? pidfd_open(r->pid, 0) : -1;

	if (fd < 0)
		return;
	for (int ms = 0; run_alive(r); ms += 20) {
		if (ms == 0 || ms == grace_s * 1000)
			pidfd_send_signal(fd, ms < grace_s * 1000 ? SIGTERM : SIGKILL, NULL, 0);
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	close(fd);
}

static int rm_one(struct cli *cli, const char *ns, const char *name, int grace_s)
{
	struct run r __attribute__((cleanup(run_free))) = { .lock = -1 };
	cleanup_(cleanup_free) char *sandbox = NULL;
	int ret = run_init(&r, cli, ns, name);

	if (ret)
		return ret;
	if (run_load(&r) && access(r.path, F_OK)) {
		ret = sandbox_find(cli, ns, name, &sandbox);
		return ret ? ret
			   : cli_refuse("%s/%s was not started by towpath run: what made its "
					"container removes it",
					ns, name);
	}
	/* Its keeper holds the lock until all is taken down; it may not have started it yet. */
	while ((ret = run_lock(&r, false)) == -EBUSY) {
		if (!run_load(&r))
			run_end(&r, grace_s);
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	if (ret < 0) {
		errno = -ret;
		return cli_refuse("cannot lock %s: %m", r.path);
	}
	if (ret == 1) { /* nobody kept it */
		run_load(&r);
		run_end(&r, grace_s);
		ret = run_down(cli, &r);
		if (ret)
			return ret;
	}
	unlink(r.log);
	return CLI_OK;
}

static int rm_run(struct cli *cli, int argc, char **argv)
{
	const char *ns = "default";
	unsigned long grace = GRACE_DEFAULT;
	char *end;
	int opt, ret;

	while ((opt = cli_getopt(cli, argc, argv)) != -1) {
		switch (opt) {
		case 'n':
			ns = cli->value;
			break;
		case OPT_GRACE:
			grace = strtoul(cli->value, &end, 10);
			if (*cli->value < '0' || *cli->value > '9' || *end || grace > 3600)
				return cli_usage(cli, "--grace takes seconds, not \"%s\"",
						 cli->value);
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (cli_operands(cli, argc, 1, INT_MAX, &ret))
		return ret;
	ret = CLI_OK;
	for (int i = optind; i < argc; i++) {
		cleanup_(cleanup_free) char *in_ns = NULL, *name = NULL;
		int one = take_name(cli, argv[i], ns, &in_ns, &name);

		if (!one)
			one = rm_one(cli, in_ns, name, (int)grace);
		if (one > ret)
			ret = one;
	}
	return ret;
}

static const struct cli_option run_options_table[] = {
	{ 'n', "namespace", "NS", "Kubernetes namespace of the pod (default: default)" },
	{ 'l', "label", "KEY=VALUE", "label of the pod (repeatable)" },
	{ 'p', "port", "[NAME=]PORT[/PROTO]",
	  "container port that policies may name (repeatable)" },
	{ 'd', "detach", NULL, "go to the background once it runs" },
	{ OPT_IP, "ip", "ADDRESS", "address wished for (one a family)" },
	{ OPT_IMAGE_ROOT, "image-root", "DIR",
	  "root folder of the process, e.g. an unpacked image" },
	{ OPT_CNI_BIN, "cni-bin", "PATH",
	  "the CNI plugin (default: the towpath-cni of this towpath)" },
	{ 0 },
};

static const struct cli_option exec_options[] = {
	{ 'n', "namespace", "NS", "Kubernetes namespace of the pod (default: default)" },
	{ 0 },
};

static const struct cli_option rm_options[] = {
	{ 'n', "namespace", "NS", "Kubernetes namespace of the pods (default: default)" },
	{ OPT_GRACE, "grace", "SECONDS", "from SIGTERM to SIGKILL (default 10)" },
	{ 0 },
};

const struct cli_command cmd_run = {
	.name = "run",
	.usage = "NAME [-n NS] [-l KEY=VALUE]... [-p PORT]... [-d] -- COMMAND [ARGUMENT]...",
	.summary = "run a command in a new endpoint, through the CNI path",
	.details =
		"Makes a network namespace, attaches it as a container runtime would, and runs "
		"the\n"
		"command in it. The endpoint goes when the command ends. With -p a Pod object is\n"
		"made too, so that policies see the named ports; it goes with the endpoint.\n"
		"The exit status is the command's; 127 or 126 when it could not be run.\n",
	.options = run_options_table,
	.examples =
		"  sudo towpath run web -l app=web -p http=8080 -d -- python3 -m http.server 8080\n"
		"  sudo towpath run client -n shop -- curl -s http://10.88.0.2:8080/\n"
		"  sudo towpath run box --image-root ./rootfs -- /bin/sh\n",
	.rest = true,
	.run = run_run,
};

const struct cli_command cmd_exec = {
	.name = "exec",
	.usage = "NAME [-n NS] -- COMMAND [ARGUMENT]...",
	.summary = "run one more command in an endpoint's network namespace",
	.details =
		"Works for every endpoint, whoever made it. With the files of the image when the\n"
		"endpoint was started with --image-root, else with the host's.\n",
	.options = exec_options,
	.examples = "  sudo towpath exec web -- ip address\n"
		    "  sudo towpath exec -n shop db -- ss -tnp\n",
	.rest = true,
	.run = exec_run,
};

const struct cli_command cmd_rm = {
	.name = "rm",
	.usage = "NAME... [-n NS] [--grace SECONDS]",
	.summary = "end what towpath run started, and remove its endpoint",
	.options = rm_options,
	.examples = "  sudo towpath rm web\n"
		    "  sudo towpath rm shop/db shop/web --grace 0\n",
	.run = rm_run,
};
