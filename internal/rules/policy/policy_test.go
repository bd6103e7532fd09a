package policy

import (
	"testing"
)

func TestShippedPoliciesLoad(t *testing.T) {
	e, err := Load(Shipped())
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Hash()) != 64 || len(e.Policies()) < 12 {
		t.Errorf("hash %q, %d policies", e.Hash(), len(e.Policies()))
	}
	for id, law := range e.Policies() {
		if law == "" {
			t.Errorf("%s has no law", id)
		}
	}
}
