/* SPDX-License-Identifier: Apache-2.0 */
/* Runs suites[] of the program it is linked into. Exit 1 when a check failed. */
#include "tests/unit/harness.h"

#include <CUnit/Basic.h>
#include <stdbool.h>
#include <stdlib.h>

int main(void)
{
	if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS)
		return EXIT_FAILURE;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	if (CU_basic_run_tests() != CUE_SUCCESS)
		return EXIT_FAILURE;
	bool is_ok = CU_get_number_of_failures() == 0 && CU_get_number_of_tests_run() > 0;
	CU_cleanup_registry();
	return is_ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
