/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A screen that is refreshed in place until a key or a signal ends it. */
#include "cli.h"

#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	stopped = 1;
}

/* Waits for the interval, a key, or a signal that `mask` lets through; the key, or 0. */
static int key_wait(uint64_t ns, bool keys, const sigset_t *mask)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	struct timespec time = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
	char key = 0;

	if (ppoll(&in, keys, &time, mask) > 0 && read(STDIN_FILENO, &key, 1) != 1)
		return 'q'; /* the terminal is gone */
	return key;
}

/* Keys one by one and without echo, as long as this runs; false: no terminal. */
static bool keys_open(struct termios *old)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, old))
		return false;
	raw = *old;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	return !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* Only while nothing is under way: no call is cut short, no line half written. */
static void signals_hold(sigset_t *mask)
{
	struct sigaction action = { .sa_handler = on_signal };
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t ends;

	sigemptyset(&ends);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&ends, numbers[i]);
	sigprocmask(SIG_BLOCK, &ends, mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}

int cli_live(struct cli *cli, const struct cli_live *live, void *arg)
{
	cleanup_(cleanup_json) json_t *before = NULL;
	cleanup_(cleanup_json) json_t *reply = NULL;
	bool end = false, keys;
	struct termios old;
	sigset_t mask;
	int status = 200;

	signals_hold(&mask);
	keys = keys_open(&old);
	/* The other screen, without a cursor and with long lines cut. */
	fputs("\033[?1049h\033[?25l\033[?7l", stdout);
	while (!end && !stopped) {
		json_decref(before);
		before = reply;
		reply = NULL;
		status = live->ask(cli, arg, &reply);
		if (status != 200)
			break;
		fputs("\033[H\033[2J", stdout);
		uint64_t ns = live->show(cli, arg, before, reply);
		fflush(stdout);
		int key = key_wait(ns, keys, &mask);

		end = key == 'q' || key == 3 || key == 4;
		if (key && !end && live->key)
			live->key(arg, key);
	}
	fputs("\033[?7h\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &old);
	/* On the screen that stays. */
	return status == 200 ? CLI_OK
			     : cli_refuse("%s", tw_client_error(cli->client, status, reply));
}

int cli_twice(struct cli *cli, int (*ask)(struct cli *cli, void *arg, json_t **reply), void *arg,
	      uint64_t ns, json_t **first, json_t **second)
{
	struct timespec time = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
	int status = ask(cli, arg, first);

	if (status == 200) {
		nanosleep(&time, NULL);
		status = ask(cli, arg, second);
	}
	return status == 200 ? CLI_OK
			     : cli_refuse("%s", tw_client_error(cli->client, status,
								*second ? *second : *first));
}
