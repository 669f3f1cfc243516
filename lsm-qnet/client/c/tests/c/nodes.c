/*
 * nodes.c - node descriptors on a node without Qnet.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/netmgr.h>

#include "check.h"

int main(void)
{
    char text[64], *end;
    int result = netmgr_strtond("joseph", &end);
    printf("another node: %d %d\n", result, errno == ENOTSUP);
    printf("this node's directory: %d", netmgr_ndtostr(ND2S_DIR_SHOW, ND_LOCAL_NODE, text, sizeof text));
    printf(" %s\n", text);
    result = netmgr_ndtostr(0, 5, text, sizeof text);
    printf("some node: %d %d\n", result, errno == ENOTSUP);
    printf("remote is local: %d\n", netmgr_remote_nd(ND_LOCAL_NODE, 7));
    printf("the same node: %d\n", netmgr_remote_nd(7, 7));
    printf("path here: %d", netmgr_path(NULL, "dev/ser1", text, sizeof text));
    printf(" %s\n", text);
    result = netmgr_path(NULL, "dev/ser1", text, 5);
    printf("too long: %d %s\n", result, error_name(errno));
    result = netmgr_strtond(NULL, NULL);
    printf("NULL: %d %s\n", result, error_name(errno));
    printf("compare: %d %d %d\n", ND_NODE_CMP(0x10005, 5), ND_NODE_CMP(1, 2) < 0, ND_NODE_CMP(2, 1) > 0);
    return 0;
}
