/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The compiler's state. One idea runs through all of it: between policy_prepare() and its
 * commit or abort, old and new state are held side by side. Values have two sides (CUR, NEXT),
 * references are counted for both, relations hold the union of both; what is of one side
 * only is dropped when the change is settled. So nothing has to be undone, and settle.c is the
 * only place that takes anything away.
 *
 *   objects → subjects (subject.c) ─┬→ which atoms match them (match.c) ─┐
 *   policies → rules (rules.c) ─────┘                                    ├→ identities (identity.c)
 *           └→ blocks of addresses → the tree of prefixes (tree.c) ──────┘        │
 *   rules of an endpoint → classes, sets, versions (version.c) → members (member.c) → plan.c
 */
#ifndef AGENT_POLICY_INTERNAL_H
#define AGENT_POLICY_INTERNAL_H

#include "object/arena.h"
#include "policy/hash.h"
#include "policy/policy.h"

/* Up to so many new ones each is looked at; a test has all of it done the other way too. */
#ifndef POLICY_FEW
#define POLICY_FEW 32
#endif

enum side { CUR, NEXT, MID }; /* MID: while a plan is carried out; identities only */

/* References: alive on a side where the count is not 0. */
struct count {
	uint32_t cur;
	uint32_t next;
};

struct vec { /* of pointers */
	void **v;
	uint32_t n;
	uint32_t cap;
};

int vec_reserve(struct vec *vec, uint32_t n); /* room for n more; pushing them cannot fail */
int vec_push(struct vec *vec, void *item);
void vec_remove(struct vec *vec, const void *item); /* the last one takes its place */
void vec_clear(struct vec *vec);
/* `array` points to a pointer to n elements, with room for *cap: makes room for one more. */
int array_room(void *array, uint32_t n, uint32_t *cap, size_t size);

struct roll { /* the first `cur` were there before the change */
	struct vec all;
	uint32_t cur;
};

/* ---- numbers (number.c) --------------------------------------------------------------------- */

struct numbers {	/* of one enum policy_id_kind */
	uint64_t *used; /* bits */
	uint32_t words;
	uint32_t first;
	uint32_t max;
	uint32_t n_used;
	uint32_t next;	       /* where the search goes on */
	struct table restored; /* of struct restored */
};

struct restored {
	struct hkey key;
	uint32_t id;
	bool claimed;
};

int number_take(struct numbers *n, const struct hkey *key, uint32_t *out);
void number_give(struct numbers *n, const struct hkey *key, uint32_t id);
int number_restore(struct numbers *n, const struct hkey *key, uint32_t id);
void number_forget_claimed(struct numbers *n);	 /* restored numbers that are in use now */
void number_forget_unclaimed(struct numbers *n); /* the others: they become free */
void numbers_clear(struct numbers *n);

/* ---- objects -------------------------------------------------------------------------------- */

struct space { /* a namespace, by its object or implied by a pod */
	struct hkey key;
	char *name;
	const struct object *obj[2];
	struct label implied_label;
	struct labels implied;
	struct vec subjects;
	struct vec policies; /* struct pol */
	uint32_t users;	     /* pods, policies; the space goes with the last one and its object */
	bool touched;
};

struct pod_entry { /* the name of a pod, with an object or an endpoint or both */
	struct hkey key;
	struct space *space;
	char *name; /* ns/name */
	const struct object *obj[2];
	struct subject *subject; /* its addresses that are not an endpoint's */
	struct vec subjects;	 /* of endpoints that bear the name */
	bool touched;
};

struct ep { /* a local endpoint */
	uint32_t slot;
	struct subject *subject[2];
	struct version *version[2];
	struct isolation { /* policies that isolate it, by enum tw_direction */
		uint32_t n[2];
	} isolation[2];
	struct ep_own {
		struct arena mem;
		struct labels labels;
		union tw_addr addr[2];
		uint32_t n_addrs;
	} *own[2];
	bool touched;
	bool dirty;  /* its rules may have changed */
	bool turned; /* old rules may see it in another way than before */
};

/* ---- subjects: what selectors match (subject.c, match.c) -------------------------------------- */

struct view { /* a subject on one side */
	bool present;
	const struct labels *labels;
	const struct pod_port *ports;
	size_t n_ports;
};

struct atoms { /* by their seq */
	struct atom **v;
	uint32_t n;
};

struct holder { /* what has an identity: a unit, or what else is at a node */
	struct identity *id[3];
	bool world;
};

struct unit { /* an address of a subject */
	struct subject *subject;
	struct node *node;
	struct unit *next; /* at the node */
	bool present[2];
	struct holder holder;
};

struct subject {
	struct space *space;
	struct pod_entry *pod;
	struct ep *ep; /* NULL: a pod known by its object */
	struct view view[2];
	struct atoms select[2]; /* endpoints only: the policies' podSelectors that match */
	struct atoms peer[2];	/* selectors of peers; NEXT has those of both sides */
	struct vec units;
	uint32_t at;	   /* in policy.subjects */
	uint32_t at_space; /* in space->subjects */
	bool touched;	   /* in txn.subjects */
	bool moved;	   /* labels, ports or presence may have changed */
	bool placed;	   /* its nodes are to be judged again */
};

/* ---- atoms (atom.c) ------------------------------------------------------------------------- */

enum atom_kind {
	ATOM_SELECT, /* pods that a policy selects */
	ATOM_PEER,   /* pods that a peer's selectors match */
	ATOM_BLOCK,  /* addresses of an ipBlock */
	ATOM_PORT,   /* pods of a peer whose container port of a name has a certain number */
};

struct match {	     /* the question an atom asks of a pod */
	char *space; /* in this namespace, NULL: in those that ns matches */
	struct selector ns;
	struct selector pod;
};

struct block {
	struct prefix cidr;
	struct prefix *except; /* disjoint */
	uint32_t n_except;
};

struct mark { /* where a block begins or has a hole */
	struct atom *atom;
	struct node *node;
	struct mark *prev, *next; /* at the node */
	bool hole;
};

struct link { /* in a bucket of the index */
	struct atom *atom;
	struct bucket *bucket;
	struct link *prev, *next;
};

struct bucket {
	struct hkey key;
	struct link *head;
};

/* Rules that let an atom pass, by enum tw_direction: between which ports, at the widest. */
struct users {
	struct user {
		struct rules *rules;
		uint32_t first;
		uint32_t last;
		uint32_t take;	 /* its place in rules->takes */
		uint32_t select; /* seq of the atom that selects the policy's endpoints */
	} *v;
	uint32_t n;
	uint32_t cap;
};

struct atom {
	struct hkey key;
	uint32_t seq;
	enum atom_kind kind;
	struct count refs;
	bool has_match; /* SELECT, PEER; PORT: of selectors */
	bool has_block; /* BLOCK; PORT: of a block */
	struct match match;
	struct block block;
	struct pname *pname; /* PORT */
	uint16_t port;	     /* PORT */
	struct arena mem;
	struct vec subjects; /* SELECT, PEER */
	struct vec policies; /* SELECT: struct pol */
	struct vec sets;     /* struct set */
	struct users users[2];
	struct link *links;
	uint32_t n_links;
	struct mark *marks;
	uint32_t n_marks;
	uint64_t mark;
	uint64_t hole;
	bool touched;
	bool stale; /* some of `subjects`, `policies` or `sets` are gone */
	struct atom *next_stale;
};

/* A name of a container port that some egress rule uses. */
struct pname {
	struct hkey key;
	struct count refs;
	uint8_t proto;
	char *name;
	struct vec subjects; /* that have a port of this name on either side */
	struct pnumber {
		uint16_t port;
		struct count subjects;
	} *numbers; /* what the name stands for */
	uint32_t n_numbers;
	uint32_t cap_numbers;
	struct vec atoms;    /* PORT */
	struct vec policies; /* struct pol, with rules that use it */
	bool touched;
};

/* ---- rules (rules.c) ------------------------------------------------------------------------ */

struct group { /* peers that pass together */
	struct hkey key;
	struct atom **atoms;
	uint32_t n;
};

struct span { /* ports that a group passes */
	uint32_t first;
	uint32_t last;
	const struct group *group; /* NULL: everybody */
	const char *name; /* ingress: a port of the endpoint itself; first is proto << 16 */
};

struct rules { /* of one policy, compiled; only while it selects an endpoint */
	uint64_t serial;
	struct pol *pol;
	struct arena mem;
	bool enabled[2]; /* enum tw_direction */
	struct span *spans[2];
	uint32_t n_spans[2];
	struct take {
		struct atom *atom; /* NULL: everybody */
		uint32_t at;	   /* in its users */
	} *takes[2];
	uint32_t n_takes[2];
	struct vec atoms;  /* one reference each */
	struct vec pnames; /* one reference each */
	bool own_names;	   /* ingress has named ports */
};

struct pol {
	struct hkey key;
	struct space *space;
	uint32_t at; /* in space->policies */
	const struct object *obj[2];
	struct atom *select[2];
	struct rules *rules[2];
	bool touched;
	bool stale; /* rules are to be made again */
};

/* ---- prefixes (tree.c) ---------------------------------------------------------------------- */

/* A compressed binary tree a family. A node without marks or units only branches. */
struct node {
	struct prefix prefix;
	struct node *parent;
	struct node *child[2];
	struct mark *marks;
	struct unit *units;  /* of a /128 */
	struct hkey sig[2];  /* sum of the blocks that hold here */
	struct holder world; /* addresses here that are no pod's */
	bool fading;	     /* has no word from now on, but one until then */
	bool listed;	     /* NEXT: blocks begin or have a hole here */
	struct unit *winner; /* NEXT: whose address this is */
	uint32_t word;	     /* CUR: what the ipcache has */
	uint32_t touched_at; /* 1 + index in txn.nodes; 0: not in it */
	bool dirty;
	uint64_t visit;
	uint64_t top;
};

/* ---- identities, sets, versions --------------------------------------------------------------- */

struct identity {
	struct hkey key; /* sum of its atoms' keys */
	struct hkey next_key;
	uint32_t id;
	struct count refs; /* holders */
	struct roll sets;
	struct holder *sample; /* of a fresh one: has it, for its atoms */
	bool fresh;
	bool kept;    /* some holder has it as before */
	bool claimed; /* for the wide signature of others */
	bool touched;
	bool stale; /* some of `sets` are gone */
	struct identity *next_stale;
	uint64_t mark;
};

/* Who is in a set on one side only, or ends. */
enum pair_kind {
	PAIR_BOTH,  /* new, in an edited set, and right before and after */
	PAIR_JOIN,  /* NEXT only */
	PAIR_LEAVE, /* CUR only */
	PAIR_BRIEF, /* CUR only, and new: while the plan is carried out */
	PAIR_END,   /* the identity ends; it may have another pair besides */
};
struct pair {
	struct set *set;
	struct identity *identity;
	enum pair_kind kind;
};

/* `item` is to be taken out of a list of `of`. */
struct tie {
	void *of;
	void *item;
};
struct ties {
	struct tie *v;
	uint32_t n;
	uint32_t cap;
};
int ties_reserve(struct ties *ties, uint32_t n);
void tie_push(struct ties *ties, void *of, void *item); /* there is room */

/*
 * A set is its atoms. One that no version wants any more as it is may become another one that
 * differs in a few: it keeps its number and its members, and is EDITED. To versions of before it
 * is what it was, to those of the change what it becomes (see policy.c).
 */
struct set {
	struct hkey key; /* of `sum`, that of its atoms' keys */
	struct hkey sum;
	uint32_t id;
	struct count refs; /* classes of versions */
	struct roll atoms;
	struct roll members; /* identities */
	struct edit *edit;   /* NEXT: what it becomes */
	struct draft *draft; /* it is not known yet whether it is a set of its own */
	bool touched;
	uint64_t mark;
};

#define UNION_MAX (64u << 20) /* atoms that all sets of one version may come to */

struct draft {
	struct set *origin; /* it is this one (NULL: nobody) ... */
	struct vec plus;    /* with these atoms */
	struct vec minus;   /* without those */
	struct set *real;   /* which stands in its place, edited */
};

struct edit {
	struct hkey key;
	struct hkey sum;
	struct vec plus;
	struct vec minus;
	uint64_t serial; /* scratch of member.c */
	uint8_t sides;
};

struct version {
	struct hkey key;
	struct hkey sum; /* of its classes */
	uint32_t id;
	struct count refs; /* endpoints */
	bool isolated[2];
	struct interval {
		uint32_t start;
		uint32_t id;	 /* of the set, as maps have it */
		struct set *set; /* NULL: nobody; &set_any: everybody */
	} *classes[2];
	uint32_t n_classes[2];
	struct heir *heir;    /* during a change: what was made of it */
	struct version *base; /* ... and what it was made of */
	bool touched;
};

/* `to` has `n_to` classes in the place of `n_from`, from `at` on; by enum tw_direction. */
struct heir {
	struct version *to;
	uint32_t at[2], n_from[2], n_to[2];
};

struct memo { /* of a change: what comes out the same is made once */
	struct hkey key;
	struct version *version;
};

extern struct set set_any;

/* ---- the whole ------------------------------------------------------------------------------ */

struct work { /* a holder whose signature may have changed */
	struct holder *holder;
	struct hkey wide; /* atoms of both sides that hold */
	struct hkey next; /* of those, the ones of NEXT */
	struct hkey old;  /* of those, the ones of CUR */
	bool stays;	  /* else it has nothing on NEXT */
	bool fades;	  /* ... but an identity until then */
};

struct txn {
	bool active;
	struct arena mem;
	struct vec spaces, pods, eps, subjects, pols, atoms, pnames, nodes, identities, sets,
		versions;
	struct vec new_select, new_peer; /* atoms */
	struct vec dirty;		 /* nodes */
	struct work *works;
	uint32_t n_works, cap_works;
	struct table by_wide, by_next, memo;
	struct vec drafts, edited; /* sets */
	uint64_t united;	   /* atoms of sets that were made of drafts */
	struct pair *pairs;
	uint32_t n_pairs, cap_pairs;
	/* What settling takes apart (so that it need not allocate), of a set each: */
	struct ties plus, minus; /* atoms that edited ones get and lose */
	struct ties gone;	 /* identities */
	bool flips;		 /* some endpoint gets another version */
	bool bump_node;
};

struct policy {
	struct hkey secret;
	struct hkey pod_key; /* part of every pod's signature */
	struct numbers numbers[3];
	struct table spaces, pods, pols, atoms, buckets, pnames;
	struct table identities, sets, versions;
	struct users anybody[2]; /* rules that let everybody pass */
	struct identity world;
	struct ep **eps; /* by slot */
	uint32_t n_eps;	 /* slots there is room for */
	struct vec subjects;
	struct node *root[2]; /* IPv4, IPv6 */
	struct prefix *reserved;
	size_t n_reserved;
	bool reserved_changed;
	uint64_t serial; /* source of marks, never repeated */
	uint32_t next_seq;
	uint32_t commits;
	struct txn txn;
};

/* Puts x into a list of the transaction once. */
#define txn_touch(p, list, x)                                                                      \
	((x)->touched ? 0 : vec_push(&(p)->txn.list, (x)) ? -ENOMEM : ((x)->touched = true, 0))

static inline bool atoms_have(const struct atoms *list, const struct atom *atom)
{
	uint32_t low = 0, high = list->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (list->v[mid] == atom)
			return true;
		if (list->v[mid]->seq < atom->seq)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* subject.c: objects and endpoints → subjects and their addresses. */
struct hkey name_key(const struct policy *p, enum object_kind kind, const char *ns,
		     const char *name);
const struct labels *space_labels(const struct space *s, enum side side);
int subjects_stage(struct policy *p, const struct policy_change *change);
int subjects_view(struct policy *p);
struct space *space_get(struct policy *p, const char *name);
int subject_touch(struct policy *p, struct subject *s);
int subject_replace(struct policy *p, struct subject *s); /* its addresses are judged again */
void subject_free(struct policy *p, struct subject *s);
void ep_own_free(struct ep_own *own);

/* atom.c */
int atom_select(struct policy *p, const char *ns, const struct selector *pods, struct atom **out);
/* A peer of a policy in `ns`; peer NULL: any pod. port 0: no named port. */
int atom_peer(struct policy *p, const char *ns, const struct policy_peer *peer, struct pname *pname,
	      uint16_t port, struct atom **out);
void atom_free(struct policy *p, struct atom *a);
int atom_ref(struct policy *p, struct atom *a);
int atom_unref(struct policy *p, struct atom *a);
/* For ATOM_PORT, which is evaluated and not looked up. addr NULL: none. */
bool atom_port_holds(const struct atom *a, const struct subject *s, enum side side,
		     const union tw_addr *addr);
int atoms_spread(struct policy *p);

/* match.c */
int index_add(struct policy *p, struct atom *a);
void index_del(struct policy *p, struct atom *a);
int match_select(struct policy *p);
int match_peers(struct policy *p);
bool atom_matches(const struct atom *a, const struct subject *s, enum side side);

/* rules.c */
int rules_stage(struct policy *p, const struct policy_change *change);
int rules_compile(struct policy *p);
void rules_free(struct policy *p, struct rules *r);
struct users *users_of(struct policy *p, struct atom *a, enum tw_direction dir);
/* The port that a span with a name has at an endpoint; false: none. */
bool span_resolve(struct span *span, const struct view *view);
bool ports_equal(const struct view *a, const struct view *b);

/* pname.c */
int pname_subject(struct policy *p, struct subject *s);
struct pname *pname_get(struct policy *p, uint8_t proto, const char *name);
/* The name of port `i` of a view, unless a port before it has the same; NULL: not in rules. */
struct pname *pname_first(const struct policy *p, const struct view *view, size_t i);
bool pname_changed(const struct pname *n); /* the numbers it stands for */
void pname_free(struct policy *p, struct pname *n);
/* The number that `name` stands for in a pod, or 0. */
uint16_t port_resolve(const struct view *view, uint8_t proto, const char *name);

/* tree.c */
unsigned int prefix_family(const struct prefix *prefix); /* 0: IPv4, 1: IPv6; index of root */
int tree_units(struct policy *p, struct subject *s);
int tree_block(struct policy *p, struct atom *a);
int tree_unblock_soon(struct policy *p, struct atom *a); /* it is dying */
void tree_unblock(struct policy *p, struct atom *a);
int tree_judge(struct policy *p);
const struct node *tree_lookup(const struct policy *p, const union tw_addr *addr);
struct unit *node_winner(const struct node *n, enum side side);
int port_atoms_each(struct policy *p, struct unit *u,
		    int (*fn)(struct policy *p, struct atom *a, void *arg), void *arg);
void tree_prune(struct policy *p, struct node *n);
bool is_reserved(const struct policy *p, const struct prefix *prefix);
void unit_unlink(struct unit *u);

/* identity.c */
int work_add(struct policy *p, const struct work *w);
int identities_assign(struct policy *p);

/* set.c */
struct hkey set_key(const struct policy *p, const struct hkey *sum);
int set_get(struct policy *p, const struct vec *atoms, const struct hkey *sum, struct set **out);
/* `origin` (NULL: nobody) with the atoms of plus and without those of minus; takes them over. */
int set_derive(struct policy *p, struct set *origin, struct vec *plus, struct vec *minus,
	       struct set **out);
bool set_has_atom(const struct set *set, const struct atom *a);
bool set_has_identity(const struct set *set, const struct identity *id);
/* When all references are counted: drafts become sets or edits of sets. */
int drafts_decide(struct policy *p);
void drafts_clear(struct policy *p); /* nothing refers to those that are no sets of their own */

/* version.c */
int versions_compile(struct policy *p);
void hash_ports(struct hash *h, const struct view *view); /* those with names */
void class_count(struct hkey *sum, const struct policy *p, enum tw_direction dir,
		 const struct interval *c, bool take);
/* Classes that only one of two lists has, in the part that the heir has of its own. */
typedef int class_fn(void *arg, struct interval *c, bool is_new);
int heir_each(const struct version *from, const struct heir *heir, enum tw_direction dir,
	      class_fn *fn, void *arg);
int memo_put(struct policy *p, struct table *memos, const struct hkey *key, struct version *v);
int version_take(struct policy *p, struct version *v, struct version **out);
void version_discard(struct version *v);

/*
 * patch.c: the version of an endpoint from the one it has, by the policies that changed. -EAGAIN:
 * that is not possible, or no cheaper than compiling all rules.
 */
int ep_patch(struct policy *p, struct ep *ep, struct table *memos, struct version **out);

/* member.c */
int members_update(struct policy *p);
/* Is an identity that an edited set has on some side in it on this one? */
bool pair_holds(const struct policy *p, const struct set *set, const struct identity *id,
		enum side side);

/* plan.c */
int plan_build(struct policy *p, struct policy_plan *plan);
uint32_t node_word(const struct node *n, enum side side);

/* settle.c */
void txn_settle(struct policy *p, bool commit);

#endif
