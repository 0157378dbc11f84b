/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * User-space half of the core's vocabulary.
 *
 * Owns: what kernel/env.h takes from the kernel, under the same names and with
 * the same meaning: types, byte order, lists, bit counting, crc32c, memory and
 * messages. Nothing here is used by the kernel module.
 */
#ifndef DM_DYNMAP_TOOLS_ENV_H
#define DM_DYNMAP_TOOLS_ENV_H

#include <endian.h>
#include <errno.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define __must_check		__attribute__((warn_unused_result))
#define __uninitialized
#define __hot

#define __printf(text, first)	__attribute__((format(printf, text, first)))

#define cpu_to_le16(x)		((__le16)htole16(x))
#define cpu_to_le32(x)		((__le32)htole32(x))
#define cpu_to_le64(x)		((__le64)htole64(x))
#define le16_to_cpu(x)		le16toh((uint16_t)(x))
#define le32_to_cpu(x)		le32toh((uint32_t)(x))
#define le64_to_cpu(x)		le64toh((uint64_t)(x))

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
#define DIV_ROUND_UP(n, d)	(((n) + (d) - 1) / (d))
#define round_up(n, d)		(((n) + (d) - 1) & ~((d) - 1))	/* @d a power of 2 */
#define min(a, b) \
	({ __typeof__(a) __a = (a); __typeof__(b) __b = (b); __a < __b ? __a : __b; })
#define max(a, b) \
	({ __typeof__(a) __a = (a); __typeof__(b) __b = (b); __a > __b ? __a : __b; })
#define min_t(type, a, b)	min((type)(a), (type)(b))
#define max_t(type, a, b)	max((type)(a), (type)(b))
#define clamp_t(type, value, low, high)	min_t(type, max_t(type, value, low), high)
#define swap(a, b) \
	do { __typeof__(a) __t = (a); (a) = (b); (b) = __t; } while (0)

#define prefetch(x)		__builtin_prefetch(x)
#define hweight64(x)		((u32)__builtin_popcountll(x))
#define __ffs64(x)		((u32)__builtin_ctzll(x))
#define fls64(x)		((x) ? 64 - __builtin_clzll(x) : 0)

static inline u32 hash_64(u64 value, u32 bits)
{
	return value * 0x61c8864680b583ebULL >> (64 - bits);
}

#define ERR_PTR(error)		((void *)(intptr_t)(error))
#define PTR_ERR(ptr)		((int)(intptr_t)(ptr))
#define IS_ERR(ptr)		((uintptr_t)(ptr) >= (uintptr_t)-4095)

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

struct list_head {
	struct list_head *next, *prev;
};

struct hlist_node {
	struct hlist_node *next, **pprev;
};

struct hlist_head {
	struct hlist_node *first;
};

static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list;
	list->prev = list;
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

static inline bool list_is_singular(const struct list_head *head)
{
	return !list_empty(head) && head->next == head->prev;
}

static inline void list_add(struct list_head *item, struct list_head *head)
{
	item->next = head->next;
	item->prev = head;
	head->next->prev = item;
	head->next = item;
}

static inline void list_add_tail(struct list_head *item, struct list_head *head)
{
	list_add(item, head->prev);
}

static inline void list_del(struct list_head *item)
{
	item->next->prev = item->prev;
	item->prev->next = item->next;
}

static inline void list_del_init(struct list_head *item)
{
	list_del(item);
	INIT_LIST_HEAD(item);
}

static inline void list_move_tail(struct list_head *item, struct list_head *head)
{
	list_del(item);
	list_add_tail(item, head);
}

static inline void list_splice_tail_init(struct list_head *list, struct list_head *head)
{
	if (list_empty(list))
		return;
	list->next->prev = head->prev;
	head->prev->next = list->next;
	list->prev->next = head;
	head->prev = list->prev;
	INIT_LIST_HEAD(list);
}

#define list_entry(ptr, type, member)		container_of(ptr, type, member)
#define list_first_entry(head, type, member)	list_entry((head)->next, type, member)
#define list_last_entry(head, type, member)	list_entry((head)->prev, type, member)
#define list_for_each_entry(pos, head, member)					\
	for (pos = list_first_entry(head, __typeof__(*pos), member);		\
	     &pos->member != (head);						\
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))
#define list_for_each_entry_safe(pos, n, head, member)				\
	for (pos = list_first_entry(head, __typeof__(*pos), member),		\
	     n = list_entry(pos->member.next, __typeof__(*pos), member);	\
	     &pos->member != (head);						\
	     pos = n, n = list_entry(n->member.next, __typeof__(*n), member))

static inline void INIT_HLIST_NODE(struct hlist_node *node)
{
	node->next = NULL;
	node->pprev = NULL;
}

static inline void hlist_add_head(struct hlist_node *node, struct hlist_head *head)
{
	node->next = head->first;
	if (head->first)
		head->first->pprev = &node->next;
	head->first = node;
	node->pprev = &head->first;
}

static inline void hlist_del_init(struct hlist_node *node)
{
	if (!node->pprev)
		return;
	*node->pprev = node->next;
	if (node->next)
		node->next->pprev = node->pprev;
	INIT_HLIST_NODE(node);
}

#define hlist_entry_or_null(ptr, type, member) \
	((ptr) ? container_of(ptr, type, member) : NULL)
#define hlist_for_each_entry(pos, head, member)					\
	for (pos = hlist_entry_or_null((head)->first, __typeof__(*pos), member);	\
	     pos;								\
	     pos = hlist_entry_or_null(pos->member.next, __typeof__(*pos), member))

/* crc32c as the kernel's: neither the seed nor the result is inverted. */
u32 crc32c(u32 crc, const void *data, size_t len);

/* Zeroed memory, or NULL; here nobody waits for it. */
void *dynmap_zalloc(size_t bytes);
#define dynmap_zalloc_try	dynmap_zalloc
void dynmap_free(const void *ptr);

/* A 4 KiB block, aligned to its size, or NULL. */
void *dynmap_block_alloc(void);
#define dynmap_block_try	dynmap_block_alloc
void dynmap_block_free(void *block);

/* Messages go to standard error, unless this is false. */
extern bool dynmap_verbose;
__printf(2, 3)
void dynmap_message(const char *level, const char *format, ...);
#define dynmap_err(...)		dynmap_message("error", __VA_ARGS__)

/* A fault of our own: says where, and ends the program. */
bool dynmap_warn_on(bool condition, const char *file, int line);
#define WARN_ON_ONCE(condition)	dynmap_warn_on((condition), __FILE__, __LINE__)

/* There is one thread. */
#define READ_ONCE(x)		(x)
#define WRITE_ONCE(x, value)	((x) = (value))

#endif /* DM_DYNMAP_TOOLS_ENV_H */
