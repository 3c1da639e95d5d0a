package sighting_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/decnet/enrich/intel/sighting"
	"github.com/decnet/enrich/provider"
)

func Example() {
	log := `{"eventid":"cowrie.direct-tcpip.request","src_ip":"45.148.10.240","dst_ip":"8.8.8.8","timestamp":"2026-11-28T08:09:10Z"}
2026-11-28T08:09:11Z bait sshd[77]: Invalid user admin from 77.90.185.20 port 4711
2026-11-28T08:09:12Z bait kernel: IN=eth0 OUT= SRC=9.9.9.9 DST=10.0.0.5 PROTO=TCP
`
	own := provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix("9.9.9.0/24")}}
	r := sighting.NewReader(strings.NewReader(log), sighting.Options{Allow: own.Allows})
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.Time.Format(time.RFC3339), s.Addr, s.Format)
	}
	report := r.Report()
	fmt.Println(report.Left())
	// Output:
	// 2026-11-28T08:09:10Z 45.148.10.240 cowrie
	// 2026-11-28T08:09:11Z 77.90.185.20 sshd
	// guarded addresses (private, special or your own): 1 (first in line 3: "9.9.9.9")
}
