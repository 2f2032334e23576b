//! Languages by their English names, which folders of models that were trained further have in the place of codes.

/// Name and code, blanks in names as underscores.
const NAMES: &str = "\
    afrikaans:af albanian:sq amharic:am arabic:ar armenian:hy assamese:as azerbaijani:az bashkir:ba basque:eu \
    belarusian:be bengali:bn bosnian:bs breton:br bulgarian:bg burmese:my cantonese:yue castilian:es catalan:ca \
    chinese:zh croatian:hr czech:cs danish:da dutch:nl english:en estonian:et faroese:fo finnish:fi flemish:nl \
    french:fr galician:gl georgian:ka german:de greek:el gujarati:gu haitian:ht haitian_creole:ht hausa:ha \
    hawaiian:haw hebrew:he hindi:hi hungarian:hu icelandic:is indonesian:id italian:it japanese:ja javanese:jw \
    kannada:kn kazakh:kk khmer:km korean:ko lao:lo latin:la latvian:lv letzeburgesch:lb lingala:ln lithuanian:lt \
    luxembourgish:lb macedonian:mk malagasy:mg malay:ms malayalam:ml maltese:mt mandarin:zh maori:mi marathi:mr \
    moldavian:ro moldovan:ro mongolian:mn myanmar:my nepali:ne norwegian:no nynorsk:nn occitan:oc panjabi:pa \
    pashto:ps persian:fa polish:pl portuguese:pt punjabi:pa pushto:ps romanian:ro russian:ru sanskrit:sa \
    serbian:sr shona:sn sindhi:sd sinhala:si sinhalese:si slovak:sk slovenian:sl somali:so spanish:es sundanese:su \
    swahili:sw swedish:sv tagalog:tl tajik:tg tamil:ta tatar:tt telugu:te thai:th tibetan:bo turkish:tr turkmen:tk \
    ukrainian:uk urdu:ur uzbek:uz valencian:ca vietnamese:vi welsh:cy yiddish:yi yoruba:yo";

/// The code of a language, by its code or its English name.
pub(crate) fn code(name: &str) -> String {
    let name = name.to_lowercase().replace(' ', "_");
    let named = |pair: &str| {
        let (known, code) = pair.split_once(':')?;
        (known == name).then(|| code.to_owned())
    };
    NAMES.split_whitespace().find_map(named).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_codes() {
        for (name, expected) in [
            ("hindi", "hi"),
            ("Haitian Creole", "ht"),
            ("cantonese", "yue"),
            ("zulu", "zulu"),
            ("de", "de"),
        ] {
            assert_eq!(code(name), expected);
        }
        let codes = NAMES
            .split_whitespace()
            .filter_map(|pair| pair.split_once(':'));
        assert!(
            codes
                .into_iter()
                .all(|(_, code)| (2..=3).contains(&code.len()))
        );
    }
}
