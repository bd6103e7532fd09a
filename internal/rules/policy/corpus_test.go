package policy

import "testing"

func TestCorpus(t *testing.T) {
	e, err := Load(Shipped())
	if err != nil {
		t.Fatal(err)
	}
	cases, failures, err := RunCorpus(e, Shipped())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range failures {
		t.Error(f)
	}
	if cases < 80 {
		t.Errorf("%d cases, want 80 at least", cases)
	}
}
