"""Which of two classes is the disease: sure for names that say it, a question for all others."""

import pytest

from overread.tasks.classes import disease_of

#: The healthy one, then the disease: what data sets call them, and plain words of seven languages.
SURE = [
    ("non-COVID", "COVID"), ("Uninfected", "Parasitized"), ("not fractured", "fractured"), ("notumor", "glioma"),
    ("IDC-", "IDC+"), ("IDC−", "IDC+"), ("No_DR", "DR"), ("NORMAL", "CNV"), ("B", "M"),
    ("Healthy Control", "Glaucoma"), ("neg", "pos"), ("normal", "abnormal"), ("gesund", "krank"),
    ("benign", "not benign"), ("benign", "malignant"), ("bénin", "malin"), ("benigno", "maligno"),
    ("sano", "enfermo"), ("sana", "malata"), ("saudável", "doente"), ("gezond", "ziek"),
    ("goedaardig", "kwaadaardig"), ("gutartig", "bösartig"), ("unauffällig", "auffällig"), ("ohne Befund", "Tumor"),
    ("kein Tumor", "Tumor"), ("sans fracture", "fracture"), ("pas de tumeur", "tumeur"),
    ("sin hallazgos", "hallazgos"), ("senza lesione", "lesione"), ("sem lesão", "lesão"), ("geen tumor", "tumor"),
    ("zonder afwijking", "afwijking"), ("0", "1"), ("-1", "1"), ("no", "yes"), ("non", "oui"), ("nein", "ja"),
    ("nee", "ja"), ("não", "sim"), ("False", "True"), ("No Finding", "Pneumonia"), ("NoFinding", "Pneumonia"),
    ("Nondemented", "Demented"), ("NonDemented", "Demented"), ("unfractured", "fractured"),
    ("uninfected", "infected"), ("free of disease", "disease"), ("tumor-free", "tumor"),
    ("without tumor", "with tumor"), ("w/o tumor", "tumor"), ("tumor absent", "tumor present"),
    ("Negative for intraepithelial lesion", "HSIL"), ("COVID negative", "COVID positive"), ("Controls", "AD"),
    ("control", "case"), ("healthy", "unhealthy"), ("normal", "not normal"), ("normal", "non-normal"),
    ("normal", "anormal"), ("négatif", "positif"), ("negativo", "positivo"), ("HER2-", "HER2+"), ("N", "P"),
    ("N", "Y"), ("normal, benign", "malignant"), ("No Tuberculosis", "Tuberculosis"),
    ("no cancer", "non-small cell cancer"), ("no evidence of disease", "recurrence"), ("unremarkable", "remarkable"),
    ("témoin", "cas"), ("Kontrolle", "Fall"), ("undiseased", "diseased"), ("Normal", "OSCC"),
    ("Non Cancerous", "Cancerous"), ("noncancerous", "cancerous"), ("Noncancer", "cancer"),
    ("Non-Autistic", "Autistic"), ("no_glaucoma", "glaucoma"), ("nonglaucoma", "glaucoma"), ("non_vpc", "vpc"),
    ("absent", "present"), ("none", "mild"), ("-", "+"), ("benign lesion", "malignant lesion"),
    ("benign tumor", "malignant tumour"), ("normal lung", "pneumonia"), ("normal finding", "abnormal finding"),
    ("absence of fracture", "fracture"),
]  # fmt: skip
#: False friends, degrees, sides, and two diseases.
DOUBTFUL = [
    ("M", "F"), ("male", "female"), ("melanoma", "nevus"), ("MEL", "NV"), ("Nodule", "Mass"), ("Norwood", "other"),
    ("Uncinate", "body"), ("unspecified", "specified"), ("nonspecific", "specific"), ("inactive", "active"),
    ("stable", "unstable"), ("union", "nonunion"), ("1", "2"), ("2", "4"), ("0", "2"), ("left", "right"),
    ("triple negative", "luminal"), ("clear cell", "papillary"), ("free fluid", "loculated fluid"),
    ("non-small cell lung cancer", "small cell lung cancer"), ("Non-Hodgkin", "Hodgkin"),
    ("non-COVID pneumonia", "COVID pneumonia"), ("mass", "non-mass"), ("responder", "non-responder"), ("SEM", "TEM"),
    ("No 1", "No 2"), ("grade 3", "grade 4"), ("normal", "benign"), ("a", "b"), ("benign", "negative"),
    ("low", "high"), ("mild", "severe"), ("not assessed", "adenoma"), ("not otherwise specified", "adenoma"),
    ("symptomatic", "asymptomatic"), ("undifferentiated", "differentiated"), ("untreated", "treated"),
    ("regular", "irregular"), ("complete", "incomplete"), ("malignant", "nevus"), ("Notochord", "chord"),
    ("unilateral", "bilateral"), ("uncontrolled", "controlled"), ("unknown", "known"), ("NSTEMI", "STEMI"),
    ("nonviable", "viable"), ("adenocarcinoma, not otherwise specified", "squamous"), ("no label", "adenoma"),
    ("resectable", "unresectable"), ("abnormal", "not normal"), ("meningioma", "glioma"), ("PAS", "HE"), ("C", "D"),
    ("AD", "CN"),
]  # fmt: skip


@pytest.mark.parametrize(("healthy", "disease"), SURE)
@pytest.mark.parametrize("written", [str, str.upper, str.capitalize, lambda name: f" {name.replace(' ', '_')}"])
def test_a_name_that_says_so_is_healthy(healthy, disease, written):
    healthy, disease = written(healthy), written(disease)
    assert disease_of([healthy, disease]) == disease
    assert disease_of([disease, healthy]) == disease


@pytest.mark.parametrize("names", DOUBTFUL)
def test_a_doubt_is_no_answer(names):
    assert disease_of(names) == disease_of(names[::-1]) == ""


def test_one_class_or_three_have_no_disease():
    assert disease_of([]) == disease_of(["normal"]) == disease_of(["normal", "benign", "malignant"]) == ""
