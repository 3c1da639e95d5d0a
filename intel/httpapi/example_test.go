package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// An API that asks for a token.
func Example() {
	attackers := memstore.New()
	id := uuid.MustParse("3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11")
	if err := attackers.Observe(context.Background(), store.Attacker{ID: id, IP: "45.155.205.233"}); err != nil {
		panic(err)
	}

	const token = "correct-horse"
	o := httpapi.Options{Authorize: httpapi.BearerToken(token), Hosts: []string{"enrich.example"}}
	server := httpapi.NewServer(httpapi.New(attackers, o), nil)
	server.Addr = ":8089"
	if err := o.CheckListen(server.Addr, false); err != nil {
		panic(err) // and it would be, without Authorize
	}
	// A service would now call server.ListenAndServe.

	for _, header := range []string{"", "Bearer " + token} {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/attackers/"+id.String()+"/intel", http.NoBody)
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 401 {"detail":"Send the token in the header Authorization: Bearer TOKEN"}
	// 404 {"detail":"No intel cached for this attacker"}
}
