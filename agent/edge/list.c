/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "edge/list.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "object/object.h"

/* Where a line is read. */
struct cursor {
	const char *at, *end; /* end of the line, without its line break */
	const char *start;
	unsigned int line;
	struct edge_list_error *err;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct cursor *c, const char *format,
							...)
{
	va_list args;

	c->err->line = c->line;
	c->err->column = (unsigned int)(c->at - c->start) + 1;
	va_start(args, format);
	vsnprintf(c->err->text, sizeof(c->err->text), format, args);
	va_end(args);
	return -EINVAL;
}

static void blanks_skip(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
		c->at++;
}

static bool is_digit(char ch)
{
	return ch >= '0' && ch <= '9';
}

/* A decimal number up to max; leading zeros would be octal elsewhere (RFC 6943 3.1.1). */
static bool number_take(struct cursor *c, uint32_t max, uint32_t *out)
{
	const char *at = c->at;
	uint32_t n = 0;

	if (at == c->end || !is_digit(*at) || (*at == '0' && at + 1 < c->end && is_digit(at[1])))
		return false;
	while (at < c->end && is_digit(*at)) {
		n = n * 10 + (uint32_t)(*at++ - '0');
		if (n > max)
			return false;
	}
	c->at = at;
	*out = n;
	return true;
}

/* One to three digits without a leading zero, up to 255. */
static inline const char *octet_take(const char *at, const char *end, uint32_t *out)
{
	uint32_t n;

	if (at == end || !is_digit(*at))
		return NULL;
	n = (uint32_t)(*at++ - '0');
	for (int i = 0; i < 2 && n && at < end && is_digit(*at); i++)
		n = n * 10 + (uint32_t)(*at++ - '0');
	if (n > 255 || (at < end && is_digit(*at)))
		return NULL;
	*out = n;
	return at;
}

/* A million of them are read in some 30 ms. */
static bool addr4_take(struct cursor *c, uint32_t *out)
{
	const char *at = c->at;
	uint32_t addr = 0, part;

	for (int i = 0; i < 4; i++) {
		if (i) {
			if (at == c->end || *at != '.')
				return false;
			at++;
		}
		at = octet_take(at, c->end, &part);
		if (!at)
			return false;
		addr = addr << 8 | part;
	}
	c->at = at;
	*out = addr;
	return true;
}

static bool is_addr6(char ch)
{
	return is_digit(ch) || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F') || ch == ':' ||
	       ch == '.';
}

static bool addr6_take(struct cursor *c, union tw_addr *out)
{
	char word[INET6_ADDRSTRLEN];
	const char *at = c->at;
	size_t n;

	while (at < c->end && is_addr6(*at))
		at++;
	n = (size_t)(at - c->at);
	if (!n || n >= sizeof(word))
		return false;
	memcpy(word, c->at, n);
	word[n] = '\0';
	/* IPv4 in IPv6 clothes: which of the two is meant depends on the reader. */
	if (inet_pton(AF_INET6, word, out) != 1 || addr_is4(out))
		return false;
	c->at = at;
	return true;
}

static void addr_map(uint32_t addr, union tw_addr *out)
{
	*out = (union tw_addr){ .word = { 0, 0, htonl(0xffff), htonl(addr) } };
}

static bool addr_take(struct cursor *c, union tw_addr *out)
{
	uint32_t addr;

	if (!addr4_take(c, &addr))
		return addr6_take(c, out);
	addr_map(addr, out);
	return true;
}

/* What may follow an address or prefix: nothing, white space, a remark. */
static bool ends(const struct cursor *c)
{
	return c->at == c->end || strchr(" \t;#,", *c->at);
}

/* ---- ranges -------------------------------------------------------------------------------- */

/* The longest runs that are prefixes, from the first address on. */
static int range4(struct cursor *c, uint32_t first, uint32_t last, edge_list_fn *fn, void *arg)
{
	uint64_t at = first;

	if (first > last)
		return refuse(c, "the range ends before it begins");
	while (at <= last) {
		uint32_t len = at ? 32 - (uint32_t)__builtin_ctzll(at | 1ull << 32) : 0;
		union tw_addr addr;
		int res;

		while (at + (1ull << (32 - len)) - 1 > last)
			len++;
		addr_map((uint32_t)at, &addr);
		res = fn(arg, &addr, 96 + len, c->line);
		if (res)
			return res;
		at += 1ull << (32 - len);
	}
	return 0;
}

typedef unsigned __int128 u128;

static u128 addr_wide(const union tw_addr *addr)
{
	return (u128)be64toh(addr->quad[0]) << 64 | be64toh(addr->quad[1]);
}

static int range6(struct cursor *c, u128 first, u128 last, edge_list_fn *fn, void *arg)
{
	if (first > last)
		return refuse(c, "the range ends before it begins");
	for (;;) {
		uint32_t len = 128;
		u128 size = 1;
		union tw_addr addr;
		int res;

		while (len && !(first & size) && first + size - 1 + size <= last &&
		       first + size - 1 + size > first) {
			size <<= 1;
			len--;
		}
		addr.quad[0] = htobe64((uint64_t)(first >> 64));
		addr.quad[1] = htobe64((uint64_t)first);
		res = fn(arg, &addr, len, c->line);
		/* The whole of it: its size does not fit. */
		if (res || !len || last - first < size)
			return res;
		first += size;
	}
}

static int range_emit(struct cursor *c, const union tw_addr *first, const union tw_addr *last,
		      edge_list_fn *fn, void *arg)
{
	if (addr_is4(first) != addr_is4(last))
		return refuse(c, "the range begins in one family and ends in the other");
	if (addr_is4(first))
		return range4(c, ntohl(first->word[3]), ntohl(last->word[3]), fn, arg);
	return range6(c, addr_wide(first), addr_wide(last), fn, arg);
}

/* ---- lines ------------------------------------------------------------------------------------- */

static int len_take(struct cursor *c, const union tw_addr *addr, uint32_t *len)
{
	uint32_t max = addr_is4(addr) ? 32 : 128;

	c->at++;
	if (!number_take(c, max, len))
		return refuse(c, "expected a prefix length from 0 to %u", max);
	*len += 128 - max;
	return 0;
}

/* Behind the first address: its length, the end of a range, or nothing of ours. */
static int rest_take(struct cursor *c, const union tw_addr *addr, edge_list_fn *fn, void *arg)
{
	union tw_addr last;
	uint32_t len = 128;
	const char *before;

	if (c->at < c->end && *c->at == '/') {
		int res = len_take(c, addr, &len);

		if (res)
			return res;
		if (!ends(c))
			return refuse(c, "expected the end of the prefix, found '%c'", *c->at);
		return fn(arg, addr, len, c->line);
	}
	before = c->at;
	blanks_skip(c);
	if (c->at < c->end && *c->at == '-') {
		c->at++;
		blanks_skip(c);
		if (!addr_take(c, &last) || !ends(c))
			return refuse(c, "expected the last address of the range");
		return range_emit(c, addr, &last, fn, arg);
	}
	if (c->at < c->end && *c->at == '/')
		return refuse(c, "a prefix has no space before its length");
	if (c->at > before && addr_take(c, &last) && ends(c))
		return range_emit(c, addr, &last, fn, arg);
	c->at = before;
	if (!ends(c))
		return refuse(c, "expected the end of the address, found '%c'", *c->at);
	return fn(arg, addr, len, c->line);
}

/* PeerGuardian: a name, which may have colons, then the range. */
static bool name_skip(struct cursor *c)
{
	const char *colon = memrchr(c->at, ':', (size_t)(c->end - c->at));
	struct cursor behind = *c;
	uint32_t addr;

	if (!colon)
		return false;
	behind.at = colon + 1;
	blanks_skip(&behind);
	if (!addr4_take(&behind, &addr) || behind.at == behind.end || *behind.at != '-')
		return false;
	c->at = colon + 1;
	blanks_skip(c);
	return true;
}

static int line_take(struct cursor *c, edge_list_fn *fn, void *arg)
{
	union tw_addr addr;

	blanks_skip(c);
	if (c->at == c->end || *c->at == '#' || *c->at == ';')
		return 0;
	if (c->end - c->at >= 2 && c->at[0] == '/' && c->at[1] == '/')
		return 0;
	/* The heads of DShield's columns. */
	if (c->end - c->at > 5 && !memcmp(c->at, "Start", 5))
		return 0;
	if (!addr_take(c, &addr) && !(name_skip(c) && addr_take(c, &addr)))
		return refuse(c, "expected an address, a prefix or a range, found '%.*s'",
			      (int)(c->end - c->at > 40 ? 40 : c->end - c->at), c->at);
	return rest_take(c, &addr, fn, arg);
}

int edge_list_each(const char *text, size_t len, edge_list_fn *fn, void *arg,
		   struct edge_list_error *err)
{
	const char *at = text, *end = text + len;
	struct cursor c = { .err = err };

	*err = (struct edge_list_error){};
	/* A byte order mark of editors elsewhere. */
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		at += 3;
	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		int res;

		c.line++;
		c.at = c.start = at;
		c.end = nl ? nl : end;
		at = c.end + 1;
		if (c.end > c.at && c.end[-1] == '\r')
			c.end--;
		res = line_take(&c, fn, arg);
		if (res)
			return res;
	}
	return 0;
}

struct parse {
	struct edge_prefixes *out;
	uint32_t rule;
};

static int prefix_add(void *arg, const union tw_addr *addr, uint32_t len, unsigned int line)
{
	const struct parse *p = arg;

	return edge_prefixes_add(p->out, addr, len, p->rule);
}

int edge_list_parse(const char *text, size_t len, uint32_t rule, struct edge_prefixes *out,
		    struct edge_list_error *err)
{
	struct edge_prefixes found = {};
	struct parse p = { &found, rule };
	/* Room for short lines, at once: the whole of it is not touched, and given back. */
	int res = edge_prefixes_reserve4(&found, len / 8) ?: edge_list_each(text, len, prefix_add, &p, err) ?: edge_prefixes_sort(&found);

	if (res) {
		if (!*err->text)
			snprintf(err->text, sizeof(err->text), "out of memory");
		edge_prefixes_free(&found);
		return res;
	}
	edge_prefixes_trim(&found);
	*out = found;
	return 0;
}

struct find {
	const union tw_addr *addr;
	unsigned int line;
	uint32_t len;
};

static int prefix_look(void *arg, const union tw_addr *addr, uint32_t len, unsigned int line)
{
	struct find *f = arg;

	struct prefix prefix = { *addr, (uint8_t)len };

	prefix_mask(&prefix);
	if ((f->line && len <= f->len) || !prefix_contains(&prefix, f->addr))
		return 0;
	f->line = line;
	f->len = len;
	return 0;
}

unsigned int edge_list_find(const char *text, size_t len, const union tw_addr *addr,
			    uint32_t *prefix_len)
{
	struct find f = { .addr = addr };
	struct edge_list_error err;

	edge_list_each(text, len, prefix_look, &f, &err);
	if (f.line)
		*prefix_len = f.len;
	return f.line;
}
