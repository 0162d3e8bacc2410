/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Small conversions between what people write and what programs use. */
#include "cli.h"

#include <string.h>
#include <time.h>

#define SECOND 1000000000ull

const char *cli_str(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

json_int_t cli_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

char *cli_labels(const json_t *labels)
{
	char *out = cli_printf("%s", "");
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)labels, key, value) {
		char *more = cli_printf("%s%s%s=%s", out, *out ? "," : "", key,
					json_string_value(value) ? json_string_value(value) : "");

		free(out);
		out = more;
	}
	return out;
}

char *cli_join(const json_t *array)
{
	char *out = cli_printf("%s", "");
	size_t i;
	json_t *value;

	json_array_foreach(array, i, value) {
		const char *s = json_string_value(value);
		char *more = cli_printf("%s%s%s", out, *out && s ? "," : "", s ? s : "");

		free(out);
		out = more;
	}
	return out;
}

/* Texts of maps are anybody's: nothing in them reaches the terminal but characters. */
static void text_string(const char *s, FILE *to)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			fprintf(to, "\\x%02x", (unsigned char)*s);
		else
			fputc(*s, to);
}

/* Elements from `first` on that are alike, if there are so many that their number is shorter. */
static size_t text_run(const json_t *array, size_t first)
{
	json_t *value = json_array_get(array, first);
	size_t n = 1;

	while (json_equal(value, json_array_get(array, first + n)))
		n++;
	return n > 4 ? n : 1;
}

static void text_value(const json_t *value, FILE *to)
{
	const char *separator = "", *key;
	json_t *member;
	size_t i, n;

	if (json_is_object(value)) {
		fputc('{', to);
		json_object_foreach((json_t *)value, key, member) {
			fprintf(to, "%s%s ", separator, key);
			text_value(member, to);
			separator = ", ";
		}
		fputc('}', to);
	} else if (json_is_array(value)) {
		fputc('[', to);
		for (i = 0; (member = json_array_get(value, i)); i += n) {
			n = text_run(value, i);
			fputs(separator, to);
			text_value(member, to);
			if (n > 1)
				fprintf(to, " x%zu", n);
			separator = " ";
		}
		fputc(']', to);
	} else if (json_is_string(value)) {
		text_string(json_string_value(value), to);
	} else {
		json_dumpf(value, to, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
	}
}

char *cli_text(const json_t *value)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	if (!to)
		abort();
	text_value(value, to);
	if (fclose(to) || !text)
		abort();
	return text;
}

const char *cli_bytes(char buf[32], uint64_t bytes)
{
	static const char *const units[] = { "kB", "MB", "GB", "TB" };
	double v = (double)bytes;
	int unit = -1;

	while (v >= 1000 && unit < 3) {
		v /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(buf, 32, "%llu B", (unsigned long long)bytes);
	else
		snprintf(buf, 32, v < 10 ? "%.1f %s" : "%.0f %s", v, units[unit]);
	return buf;
}

const char *cli_duration(char buf[32], uint64_t s)
{
	if (s < 60)
		snprintf(buf, 32, "%u s", (unsigned int)s);
	else if (s < 3600)
		snprintf(buf, 32, "%u min %u s", (unsigned int)(s / 60), (unsigned int)(s % 60));
	else if (s < 86400)
		snprintf(buf, 32, "%u h %u min", (unsigned int)(s / 3600),
			 (unsigned int)(s % 3600 / 60));
	else
		snprintf(buf, 32, "%llu d %u h", (unsigned long long)(s / 86400),
			 (unsigned int)(s % 86400 / 3600));
	return buf;
}

const char *cli_number(char buf[32], uint64_t n)
{
	char digits[24];
	size_t len = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	char *p = buf;

	for (size_t i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*p++ = ' ';
		*p++ = digits[i];
	}
	*p = '\0';
	return buf;
}

bool cli_parse_duration(const char *text, uint64_t *ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = { { "ms", 1000000 },
		      { "s", SECOND },
		      { "m", 60 * SECOND },
		      { "h", 3600 * SECOND },
		      { "d", 86400 * SECOND } };
	uint64_t total = 0;

	if (!*text)
		return false;
	while (*text) {
		char *end;
		size_t u = 0;

		if (*text < '0' || *text > '9')
			return false;
		unsigned long long n = strtoull(text, &end, 10);
		size_t len = strspn(end, "abcdefghijklmnopqrstuvwxyz");

		while (u < 5 && (strlen(units[u].unit) != len || strncmp(units[u].unit, end, len)))
			u++;
		if (u == 5 || n > UINT64_MAX / 4 / units[u].ns)
			return false;
		total += n * units[u].ns;
		text = end + len;
	}
	*ns = total;
	return true;
}

bool cli_parse_since(const char *text, uint64_t *ns)
{
	struct timespec now;
	struct tm tm = { 0 };
	uint64_t ago;

	clock_gettime(CLOCK_REALTIME, &now);
	if (cli_parse_duration(text, &ago)) {
		uint64_t t = (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;

		*ns = ago < t ? t - ago : 0;
		return true;
	}
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!end || (*end && strcmp(end, "Z")))
		return false;
	tm.tm_isdst = -1;
	time_t t = *end ? timegm(&tm) : mktime(&tm); /* without a zone: local time */

	if (t < 0)
		return false;
	*ns = (uint64_t)t * SECOND;
	return true;
}

bool cli_parse_label(const char *text, json_t *labels)
{
	const char *eq = strchr(text, '=');

	if (!eq || eq == text)
		return false;
	char *key = cli_printf("%.*s", (int)(eq - text), text);
	bool ok = !json_object_set_new(labels, key, json_string(eq + 1));

	free(key);
	return ok;
}

bool cli_name_valid(const char *name, bool dots)
{
	static const char alnum[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	size_t len = strlen(name);

	if (!len || len > (dots ? 253 : 63) || !strchr(alnum, name[0]) ||
	    !strchr(alnum, name[len - 1]) || strstr(name, ".."))
		return false;
	for (const char *p = name; *p; p++)
		if (!strchr(alnum, *p) && *p != '-' && !(dots && *p == '.'))
			return false;
	return true;
}

bool cli_parse_pod(const char *text, const char *ns, char **out_ns, char **out_name)
{
	const char *slash = strchr(text, '/');
	char *left = slash ? cli_printf("%.*s", (int)(slash - text), text) : cli_printf("%s", ns);
	const char *name = slash ? slash + 1 : text;

	if (!cli_name_valid(left, false) || !cli_name_valid(name, true)) {
		free(left);
		return false;
	}
	*out_ns = left;
	*out_name = cli_printf("%s", name);
	return true;
}
