/* SPDX-License-Identifier: Apache-2.0 */
#include "core/permission.h"

#include <string.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"

static const struct {
	enum permission permission;
	bool member, org_admin, sys_admin;
} rights[] = {
	{PERM_NONE, true, true, true},
	{PERM_CHAT, true, true, true},
	{PERM_INSTANCES_READ, true, true, true},
	{PERM_INSTANCES_WRITE, false, true, true},
	{PERM_INSTANCES_LIFECYCLE, false, true, true},
	{PERM_TOKENS, false, true, true},
	{PERM_LLM_CONFIGS, false, true, true},
	{PERM_LLM_KEYS, false, true, false},
	{PERM_ORG_STATS, false, true, true},
	{PERM_ADMIN, false, false, true},
};

static void each_role_may_what_its_row_says(void)
{
	CU_ASSERT_EQUAL(ARRAY_LEN(rights), PERM_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(rights); i++) {
		CU_ASSERT_EQUAL(role_may(ROLE_MEMBER, rights[i].permission), rights[i].member);
		CU_ASSERT_EQUAL(role_may(ROLE_ORG_ADMIN, rights[i].permission), rights[i].org_admin);
		CU_ASSERT_EQUAL(role_may(ROLE_SYS_ADMIN, rights[i].permission), rights[i].sys_admin);
	}
}

static void what_is_not_known_may_nothing(void)
{
	CU_ASSERT_FALSE(role_may((enum role)3, PERM_CHAT));
	CU_ASSERT_FALSE(role_may((enum role)(-1), PERM_CHAT));
	CU_ASSERT_FALSE(role_may(ROLE_SYS_ADMIN, PERM_COUNT));
	CU_ASSERT_FALSE(role_may_grant((enum role)3, ROLE_MEMBER));
	CU_ASSERT_FALSE(role_may_grant(ROLE_SYS_ADMIN, (enum role)3));
}

static void nobody_grants_above_the_own_role(void)
{
	CU_ASSERT_FALSE(role_may_grant(ROLE_MEMBER, ROLE_MEMBER)); /* makes no tokens at all */
	CU_ASSERT_TRUE(role_may_grant(ROLE_ORG_ADMIN, ROLE_MEMBER));
	CU_ASSERT_TRUE(role_may_grant(ROLE_ORG_ADMIN, ROLE_ORG_ADMIN));
	CU_ASSERT_FALSE(role_may_grant(ROLE_ORG_ADMIN, ROLE_SYS_ADMIN));
	CU_ASSERT_TRUE(role_may_grant(ROLE_SYS_ADMIN, ROLE_SYS_ADMIN));
}

static void permissions_have_names(void)
{
	CU_ASSERT_STRING_EQUAL(permission_name(PERM_INSTANCES_LIFECYCLE), "org.orchestrators.lifecycle");
	CU_ASSERT_STRING_EQUAL(permission_name(PERM_ADMIN), "admin");
	CU_ASSERT_STRING_EQUAL(permission_name(PERM_COUNT), "unknown");
}

static CU_TestInfo cases[] = {
	CASE(each_role_may_what_its_row_says),
	CASE(what_is_not_known_may_nothing),
	CASE(nobody_grants_above_the_own_role),
	CASE(permissions_have_names),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "permission", .pTests = cases},
	CU_SUITE_INFO_NULL,
};
