/* A line typed into the shell becomes words, as arguments of a verb. */
#ifndef CLIENT_CLI_WORDS_H
#define CLIENT_CLI_WORDS_H

#define WORDS_MAX 256

/* Splits at blanks, in place. "..." keeps blanks together and knows the escapes that values are
 * printed with: \n \t \r \\ \" \xHH; '...' keeps everything as it is; outside of both, \ takes the
 * meaning from the next character. Returns how many words there are, the array ends with NULL;
 * or -1, and what is wrong with the line in *wrong. */
int words_split(char *line, char *words[WORDS_MAX + 1], const char **wrong);

#endif
