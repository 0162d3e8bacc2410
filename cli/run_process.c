/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The process of a run: into its namespaces, started, waited for. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

void keeper_signals(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, old);
}

int run_exec(char **argv)
{
	execvp(argv[0], argv);

	int status = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;

	cli_refuse("cannot run %s: %m", argv[0]);
	return status;
}

/* A file system in the image, where it has the folder for it. */
static int image_mount(const char *root, const char *dir, const char *type, unsigned long flags)
{
	cleanup_(cleanup_free) char *path = cli_printf("%s/%s", root, dir);
	cleanup_(cleanup_free) char *source = cli_printf("/%s", dir);
	struct stat st;

	if (stat(path, &st))
		return 0;
	return mount(type ? type : source, path, type, flags, NULL) ? -errno : 0;
}

/* Into the image: its files, with /proc, /sys and /dev of this node and namespace. */
static int image_enter(const char *root, const char *name)
{
	int ret;

	if (unshare(CLONE_NEWNS | CLONE_NEWUTS) || mount("", "/", NULL, MS_REC | MS_SLAVE, NULL) ||
	    sethostname(name, strlen(name)))
		return -errno;
	ret = image_mount(root, "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV);
	if (!ret)
		ret = image_mount(root, "sys", "sysfs",
				  MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY);
	if (!ret)
		ret = image_mount(root, "dev", NULL, MS_BIND | MS_REC);
	if (!ret && (chroot(root) || chdir("/")))
		ret = -errno;
	return ret;
}

static int netns_enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;

	int ret = setns(fd, CLONE_NEWNET) ? -errno : 0;

	close(fd);
	return ret;
}

int run_detach_output(const struct run *r)
{
	int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int out = open(r->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int ret = 0;

	if (in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(out, STDERR_FILENO) < 0)
		ret = -errno;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return ret;
}

/* In the child. A failure goes through the pipe as an errno; the exec closes it. */
static void process_become(const struct run *r, char **argv, const sigset_t *mask, int report)
{
	int err = -netns_enter(r->netns);

	if (r->detached) {
		setsid(); /* a group of its own, so that its end is its children's */
		/* The log is the host's file: before the image's files hide it. */
		err = err ? err : -run_detach_output(r);
	} else {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
	}
	if (!err && r->root)
		err = -image_enter(r->root, r->name);
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (!err) {
		execvp(argv[0], argv);
		err = errno;
	}
	if (write(report, &err, sizeof(err)) < 0)
		_exit(EXIT_NOT_FOUND);
	_exit(err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

int run_start(struct run *r, char **argv, const sigset_t *mask)
{
	int report[2], err = 0;

	if (pipe2(report, O_CLOEXEC))
		return cli_refuse("cannot start %s: %m", argv[0]);
	fflush(stdout);

	pid_t pid = fork();

	if (!pid)
		process_become(r, argv, mask, report[1]);
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		return cli_refuse("cannot start %s: %m", argv[0]);
	}
	ssize_t n = read(report[0], &err, sizeof(err));

	close(report[0]);
	if (n > 0) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		errno = err;
		cli_refuse("cannot run %s: %m", argv[0]);
		return err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
	}
	r->pid = pid;
	r->start = process_start(pid);
	return 0;
}

int run_wait(const struct run *r)
{
	siginfo_t end, sig;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		end.si_pid = 0;
		if (waitid(P_PID, (id_t)r->pid, &end, WEXITED | WNOHANG | WNOWAIT))
			return CLI_REFUSED;
		if (end.si_pid)
			break;
		if (sigwaitinfo(&set, &sig) <= 0 || sig.si_signo == SIGCHLD)
			continue;
		/* The terminal's signals go to the whole group, so the process has them already. */
		if (sig.si_code != SI_KERNEL)
			kill(r->pid, sig.si_signo);
	}
	/* Still unreaped, its number cannot be another's yet: so its group is really its own. */
	if (r->detached)
		kill(-r->pid, SIGKILL);
	waitid(P_PID, (id_t)r->pid, &end, WEXITED);
	return end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
}

int run_enter(pid_t pid, const char *netns, bool root)
{
	cleanup_(cleanup_free) char *path = cli_printf("/proc/%d/root", (int)pid);
	int dir = root ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	int ret = 0;

	if (root && dir < 0)
		return -errno;
	if (pid > 0) {
		int fd = pidfd_open(pid, 0);

		/* setns() takes several at once from a pidfd (Linux 5.8). */
		if (fd < 0 || setns(fd, CLONE_NEWNET | (root ? CLONE_NEWNS | CLONE_NEWUTS : 0)))
			ret = -errno;
		if (fd >= 0)
			close(fd);
	} else {
		ret = netns_enter(netns);
	}
	if (!ret && root && (fchdir(dir) || chroot(".")))
		ret = -errno;
	if (dir >= 0)
		close(dir);
	return ret;
}
