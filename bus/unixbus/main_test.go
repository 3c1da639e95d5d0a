package unixbus_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if clients, err := strconv.Atoi(os.Getenv(crowdOf)); err == nil {
		if err := crowd(os.Args[1], clients); err != nil {
			fmt.Fprintln(os.Stderr, "the crowd fails:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
