/* A Debian package index as records: what `apt-cache dumpavail` prints, stanzas of "Field: value"
 * lines separated by empty lines. The key of a record is its Package field, the value the whole
 * stanza without the newline at its end.
 *
 * A package that appears more than once (in several versions) has the key NAME for the first one
 * and NAME=VERSION for the others, NAME=VERSION#2 and so on if that is taken too. Exact repeats are
 * left out. So keys are unique, and the same file always gives the same records.
 */
#ifndef CLIENT_PACKAGES_INDEX_H
#define CLIENT_PACKAGES_INDEX_H

#include <stddef.h>

struct packages_record {
    char *key;         /* text; owned by the index */
    const char *value; /* in the text that was parsed */
    size_t value_len;
};

struct packages_index {
    struct packages_record *records;
    size_t n;
    size_t bytes; /* of all values */
};

/* Takes the first `limit` records (0: all). The text must stay where it is while the index is used.
 * Stanzas without a Package field are no records. */
void packages_index_parse(struct packages_index *index, const char *text, size_t len, size_t limit);
void packages_index_fini(struct packages_index *index);

#endif
