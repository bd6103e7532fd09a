package explain

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// sentence says one reason: how much, in which direction, why, and its share of all that moved
// the item. Without a word of direction it raised the item; "held back" lowered it.
func sentence(clause features.Text, raised bool, share float64) features.Text {
	var en, fr string
	switch {
	case share >= mostlyFrom:
		en, fr = "mostly ", "surtout "
	case share < slightUnder:
		en, fr = "slightly ", "un peu "
	}
	if !raised {
		en, fr = "held back "+en, "moins mis en avant, "+fr
	}
	return features.Text{
		EN: en + "because " + clause.EN + " (" + percent(share) + ")",
		FR: fr + because(clause.FR) + " (" + percent(share) + ")",
	}
}

// because joins "parce que" and a clause, with elision before a vowel; before "de", "du" and "d’"
// it is "à cause", as English has "because of".
func because(clause string) string {
	for _, of := range []string{"de ", "du ", "d'", "d’"} {
		if strings.HasPrefix(clause, of) {
			return "à cause " + clause
		}
	}
	first, _ := utf8.DecodeRuneInString(clause)
	if strings.ContainsRune("aeiouyàâäéèêëîïôöùûüœæ", unicode.ToLower(first)) {
		return "parce qu'" + clause
	}
	return "parce que " + clause
}

// percent rounds a share to whole per cents, and says so where nothing would be left.
func percent(share float64) string {
	whole := int(math.Round(share * 100))
	if whole == 0 {
		return "< 1 %"
	}
	return strconv.Itoa(whole) + " %"
}

// upper makes a sentence begin with a capital.
func upper(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}
