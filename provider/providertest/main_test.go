package providertest_test

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	addrA = netip.MustParseAddr("45.155.205.233")
	addrB = netip.MustParseAddr("193.32.162.7")
	addrC = netip.MustParseAddr("61.177.172.136")
)
