package upstream_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

func Example() {
	server, err := upstream.Start(upstream.Options{
		Quotas: map[upstream.Source][]upstream.Quota{upstream.GreyNoise: {{Calls: 1, Window: 7 * 24 * time.Hour}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	server.SetProfile(netip.MustParseAddr("193.32.162.7"), upstream.Unseen)

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 2 {
		resp, err := client.Get(server.URL() + "/v3/community/193.32.162.7")
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, string(body))
	}
	// Output:
	// 404 {"ip":"193.32.162.7","noise":false,"riot":false,"message":"IP not observed scanning the internet."}
	// 429 {"plan":"Community","rate_limit":"1-W","message":"You have exceeded your provisioned rate limit."}
}
