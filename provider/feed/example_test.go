package feed_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"github.com/decnet/enrich/provider/feed"
)

// A list of networks with a remark on each, such as many publishers have.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# networks\n45.155.205.0/24\tscans\n193.32.162.7\tguesses passwords\n")
	}))
	defer server.Close()

	blocked, err := feed.New(feed.Options[string]{
		Provider: "blocklist",
		Sources:  []feed.Source{{URL: server.URL + "/all.txt"}},
		Row: func(_ string, fields []string) (string, bool) {
			return strings.Clone(strings.Join(fields, " ")), true
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := blocked.Refresh(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	answer, err := blocked.Lookup(netip.MustParseAddr("193.32.162.7"))
	fmt.Println(answer.Listed, answer.Network, answer.Value, err, blocked.Status().Rows)
	// Output: true 193.32.162.7/32 guesses passwords <nil> 2
}

// A table of one's own.
func ExampleNewTable() {
	offices, err := feed.NewTable(func(yield func(netip.Prefix, string) bool) {
		_ = yield(netip.MustParsePrefix("10.0.0.0/8"), "all") && yield(netip.MustParsePrefix("10.1.0.0/16"), "Paris")
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	name, found := offices.Lookup(netip.MustParseAddr("10.1.2.3"))
	fmt.Println(name, found)
	// Output: Paris true
}
