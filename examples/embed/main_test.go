package main

import (
	"os"
	"strings"
	"testing"
)

func Example() {
	main()
	// Output: attacker.intel.enriched: 45.155.205.233 is malicious; mine_listed is true
}

// TestREADME: it shows the body of run.
func TestREADME(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "func run(ctx context.Context) error {\n")
	body, _, found := strings.Cut(body, "\n}\n")
	if body = strings.ReplaceAll("\n"+body, "\n\t", "\n"); !found || !strings.Contains(string(readme), body) {
		t.Errorf("the README lacks\n%s", body)
	}
}
