package policy

import (
	"os"
	"regexp"
	"testing"
	"testing/fstest"
)

// TestGuideExamplesWork loads the policies that the guide shows beside the shipped ones, and
// runs its case.
func TestGuideExamplesWork(t *testing.T) {
	page, err := os.ReadFile("../../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, m := range regexp.MustCompile("(?s)```(yaml)?\n(.*?)```").FindAllSubmatch(page, -1) {
		name := "guide.cedar"
		if len(m[1]) > 0 {
			name = "corpus/guide.yaml"
		}
		f := files[name]
		if f == nil {
			f = &fstest.MapFile{}
			files[name] = f
		}
		f.Data = append(f.Data, m[2]...)
	}
	if files["guide.cedar"] == nil || files["corpus/guide.yaml"] == nil {
		t.Fatal("the guide shows no example")
	}
	e, err := shippedEngine(t).with("guide.cedar", string(files["guide.cedar"].Data))
	if err != nil {
		t.Fatal(err)
	}
	cases, failures, err := RunCorpus(e, files)
	if err != nil || cases == 0 || len(failures) > 0 {
		t.Errorf("%d cases, %v, %v", cases, failures, err)
	}
	if _, failures, err := RunCorpus(shippedEngine(t), files); err != nil || len(failures) == 0 {
		t.Errorf("the case holds without the policy: %v, %v", failures, err)
	}
	// The shipped corpus has cases that such a policy is meant to change, and no others.
	if _, failures, err := RunCorpus(e, Shipped()); err != nil || len(failures) != 0 {
		t.Errorf("%v, %v", failures, err)
	}
}
