package feed_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
)

// A list of one address a line, such as many publishers have.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "45.155.205.233")
		fmt.Fprintln(w, "193.32.162.7")
	}))
	defer server.Close()

	blocked, err := feed.New(feed.Options[struct{}]{
		Provider: "blocklist",
		URL:      "https://lists.example.com/all.txt",
		BaseURL:  server.URL, // this example's own
		Decode: func(body []byte) (map[netip.Addr]struct{}, error) {
			list := map[netip.Addr]struct{}{}
			for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
				addr, err := provider.ParseAddr(lines.Text())
				if err != nil {
					return nil, errors.New("a line that is no address")
				}
				list[addr] = struct{}{}
			}
			return list, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := blocked.Lookup(context.Background(), netip.MustParseAddr("193.32.162.7"))
	fmt.Println(answer.Listed, err, blocked.Stats().Entries)
	// Output: true <nil> 2
}
