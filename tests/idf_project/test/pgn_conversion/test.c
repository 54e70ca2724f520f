/* PGN 0x355: the state of charge is sent in whole percent. */
#include <stdio.h>

static int state_of_charge(int permille)
{
    return permille / 10;
}

int main(void)
{
    int failures = state_of_charge(805) != 80;
    printf("test_state_of_charge:%s\n1 Tests %d Failures 0 Ignored\n", failures ? "FAIL" : "PASS", failures);
    return failures;
}
