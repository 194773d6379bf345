# SPDX-License-Identifier: Apache-2.0
include %D%/fake/local.mk
include %D%/unit/local.mk
include %D%/fuzz/local.mk
include %D%/integration/local.mk
include %D%/bench/local.mk
include %D%/chaos/local.mk
include %D%/model/local.mk
